// A thread waits until a point of time. If clocks and waits did not agree, it would wait for an
// hour.
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static void* waits(void* error) {
  sem_t s;
  struct timespec t;
  sem_init(&s, 0, 0);
  clock_gettime(CLOCK_REALTIME, &t);
  t.tv_sec++;
  *(int*)error = sem_timedwait(&s, &t) == 0 ? 0 : errno;
  return NULL;
}

int main(void) {
  pthread_t id;
  int error = 0;
  alarm(60);
  pthread_create(&id, NULL, waits, &error);
  pthread_join(id, NULL);
  puts(error == ETIMEDOUT ? "in time" : "not in time");
  return 0;
}
