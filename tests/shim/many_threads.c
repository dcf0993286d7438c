// An ordinary program with very many threads, for the shim. It measures the memory that sleeping
// threads take, and the memory that a long sequence of threads leaves behind, and fails if either
// is more than Tendril promises.
//
//   many_threads SLEEPING SEQUENCE MOST_BYTES
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sem_t asleep;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake_up = PTHREAD_COND_INITIALIZER;
static int awake;

// In KB.
static long status(const char* name) {
  char line[256];
  long value = -1;
  FILE* f = fopen("/proc/self/status", "r");
  while (f && fgets(line, sizeof line, f)) {
    if (strncmp(line, name, strlen(name)) == 0) value = atol(line + strlen(name));
  }
  if (f) fclose(f);
  return value;
}

static long mappings(void) {
  long n = 0;
  FILE* f = fopen("/proc/self/maps", "r");
  for (int c; f && (c = getc(f)) != EOF;) n += c == '\n';
  if (f) fclose(f);
  return n;
}

static void* sleeps(void* p) {
  sem_post(&asleep);
  pthread_mutex_lock(&lock);
  while (!awake) pthread_cond_wait(&wake_up, &lock);
  pthread_mutex_unlock(&lock);
  return p;
}

static void* passes(void* p) {
  free(malloc(100));  // makes the C library's cache for the thread
  return p;
}

static void make(pthread_t* t, void* (*start)(void*), long n) {
  int error = pthread_create(t, NULL, start, (void*)n);
  if (error) fprintf(stderr, "thread %ld: %s\n", n, strerror(error)), exit(1);
}

static void take(pthread_t t, long n) {
  void* result;
  if (pthread_join(t, &result) != 0 || result != (void*)n)
    fprintf(stderr, "thread %ld gave something else\n", n), exit(1);
}

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  long sleeping = atol(argv[1]), row = atol(argv[2]), most = atol(argv[3]), failed = 0;
  pthread_t* all = calloc(sleeping, sizeof *all);
  sem_init(&asleep, 0, 0);

  make(all, passes, 1);
  take(all[0], 1);
  memset(all, 0, sleeping * sizeof *all);
  long rss = status("VmRSS:"), tables = status("VmPTE:");
  for (long i = 0; i < sleeping; i++) make(&all[i], sleeps, i);
  for (long i = 0; i < sleeping; i++) sem_wait(&asleep);
  long each = (status("VmRSS:") - rss) * 1024 / sleeping,
       each_tables = (status("VmPTE:") - tables) * 1024 / sleeping;
  printf(
      "%ld threads sleep: %ld bytes of memory and %ld of page tables each, %ld mappings, %ld "
      "kernel threads\n",
      sleeping, each, each_tables, mappings(), status("Threads:"));
  if (each > most) failed = 1, printf("that is more than %ld bytes\n", most);
  if (mappings() > 1000) failed = 1, printf("so many mappings would run into vm.max_map_count\n");
  pthread_mutex_lock(&lock);
  awake = 1;
  pthread_cond_broadcast(&wake_up);
  pthread_mutex_unlock(&lock);
  for (long i = 0; i < sleeping; i++) take(all[i], i);

  for (long i = 0; i < row / 10; i++) make(&all[0], passes, i), take(all[0], i);
  rss = status("VmRSS:");
  for (long i = 0; i < row; i++) make(&all[0], passes, i), take(all[0], i);
  long grown = status("VmRSS:") - rss;
  printf("%ld threads one after another: %ld KB more\n", row, grown);
  if (grown > 200) failed = 1;
  return failed;
}
