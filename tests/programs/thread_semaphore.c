// Semaphores of one process and of several: their values, waits until a time, waits that a handler
// ends.
#include "threads.h"

#include <limits.h>
#include <semaphore.h>

static sem_t semaphore;

static long value(void) {
  int n = -1;
  MUST(sem_getvalue(&semaphore, &n));
  return n;
}

static void errors(int shared) {
  struct timespec t = in_ms(CLOCK_BOOTTIME, 5);
  SAY("more than there can be", sem_init(&semaphore, shared, (unsigned)INT_MAX + 1));
  SAY("as many as there can be", sem_init(&semaphore, shared, INT_MAX));
  SAY("post of a full one", sem_post(&semaphore));
  SAY("  has no effect", value() == INT_MAX);
  SAY("none", sem_init(&semaphore, shared, 0));
  SAY("trywait", sem_trywait(&semaphore));
  SAY("clockwait by another clock", sem_clockwait(&semaphore, CLOCK_BOOTTIME, &t));
  t = (struct timespec){0, 1000000000};
  SAY("timedwait, no time", sem_timedwait(&semaphore, &t));
  t = in_ms(CLOCK_REALTIME, 5);
  SAY("timedwait", sem_timedwait(&semaphore, &t));
  t = in_ms(CLOCK_MONOTONIC, 5);
  SAY("clockwait", sem_clockwait(&semaphore, CLOCK_MONOTONIC, &t));
  SAY("  when that time has come",
      seconds_on(CLOCK_MONOTONIC) >= (double)t.tv_sec + (double)t.tv_nsec / 1e9);
  SAY("  none is there", value());
}

static void* waits(void* unused) {
  (void)unused;
  return (void*)(intptr_t)(sem_wait(&semaphore) ? errno : 0);
}
static void handlers(void) {
  struct worker w;
  on_signal(SIGUSR1, 0);
  take_handled();
  start(&w, waits, NULL);
  await_waiting(&w);
  pthread_kill(w.id, SIGUSR1);
  ERR("a handler ends a wait", (int)(intptr_t)end_of(&w));
  SAY("  which ran", take_handled());
  on_signal(SIGUSR1, SA_RESTART);
  start(&w, waits, NULL);
  await_waiting(&w);
  pthread_kill(w.id, SIGUSR1);
  while (!handled) sched_yield();
  await_waiting(&w);
  SAY("post", sem_post(&semaphore));
  ERR("a handler with SA_RESTART does not", (int)(intptr_t)end_of(&w));
}

int main(void) {
  for (int shared = 0; shared < 2; shared++) {
    printf("-- %s\n", shared ? "shared by processes" : "of one process");
    errors(shared);
    handlers();
    SAY("destroy", sem_destroy(&semaphore));
  }
  return 0;
}
