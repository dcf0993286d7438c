// Stands still for a debugger: threads that sleep, and main, or a thread, in a function of a known name.
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int fds[2];
static volatile int entered;
volatile long counted;

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
__attribute__((noinline)) static void* computes_in_thread(void* p) {
  printf("ready\n");
  fflush(stdout);
  for (;;) counted++;
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
  if (strcmp(how, "fault") == 0) pthread_create(&t, NULL, faults_in_thread, NULL);
  if (strcmp(how, "reads") == 0) reads_in_main();
  pthread_join(t, NULL);
  return 0;
}
