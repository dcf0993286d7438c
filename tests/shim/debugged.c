// A program for a debugger to inspect: threads that sleep, and main, or a thread, in a function of
// a known name.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int fds[2];
static volatile int entered;
volatile long counted;
volatile int goes_on;

static void* sleeps(void* p) {
  entered++;
  sleep(1000);
  return p;
}
__attribute__((noinline)) static void reads_in_main(void) {
  char c;
  printf("ready\n");
  fflush(stdout);
  if (read(fds[0], &c, 1) < 0) counted++;
}
static void* computes_for_a_while(void* p);
__attribute__((noinline)) static void* computes_in_thread(void* p) {
  printf("ready\n");
  fflush(stdout);
  while (!goes_on) counted++;
  computes_for_a_while(p);
  exit(0);
}
// Computes for some dozens of ticks, while another thread does the same.
static void* computes_for_a_while(void* p) {
  clock_t until = clock() + CLOCKS_PER_SEC / 2;
  while (clock() < until) counted++;
  return p;
}
__attribute__((noinline)) static void* faults_in_thread(void* p) {
  printf("ready\n");
  fflush(stdout);
  volatile char* volatile nowhere = NULL;
  *nowhere = 1;
  return p;
}

int main(int argc, char** argv) {
  pthread_t t;
  if (pipe(fds) < 0) return 1;
  for (int i = 0; i < 3; i++) pthread_create(&t, NULL, sleeps, NULL);
  while (entered < 3) usleep(1000);
  const char* how = argc > 1 ? argv[1] : "";
  if (strcmp(how, "computes") == 0) pthread_create(&t, NULL, computes_in_thread, NULL);
  for (int i = 0; strcmp(how, "ends") == 0 && i < 2; i++)
    pthread_create(&t, NULL, computes_for_a_while, NULL);
  if (strcmp(how, "ends") == 0) return pthread_join(t, NULL);
  if (strcmp(how, "fault") == 0) pthread_create(&t, NULL, faults_in_thread, NULL);
  if (strcmp(how, "reads") == 0) reads_in_main();
  pthread_join(t, NULL);
  return 0;
}
