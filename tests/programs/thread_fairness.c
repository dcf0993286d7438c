// A thread that releases a lock only to take it again does not keep the others out for ever, not
// even if they get their turns only while it holds the lock: here, during its writes.
#include "threads.h"

#include <semaphore.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t semaphore;
static volatile int done, written;
static int null;

static void* writes_with_mutex(void* unused) {
  while (!done) {
    pthread_mutex_lock(&mutex);
    written += (int)write(null, "x", 1);
    pthread_mutex_unlock(&mutex);
  }
  return unused;
}

static void* writes_with_semaphore(void* unused) {
  while (!done) {
    while (sem_wait(&semaphore)) {}
    written += (int)write(null, "x", 1);
    sem_post(&semaphore);
  }
  return unused;
}

// Waits until it has taken the lock very often; the others get their turns during its writes.
static void await_writes(void) {
  for (int begin = written; written - begin < 1000;) sched_yield();
}

static volatile int woken;
static void* sleeps(void* unused) {
  for (int i = 0; i < 5; i++) usleep(30000);  // longer than between two ticks
  woken = 1;
  return unused;
}
// Whether the sleeper wakes before this thread has computed for many times as long, by the clock of
// the process: for some time there is nobody to give way to, and then there is.
static int wakes_beside(void) {
  struct worker w;
  woken = 0;
  start(&w, sleeps, NULL);
  double begin = seconds_on(CLOCK_PROCESS_CPUTIME_ID);
  while (!woken && seconds_on(CLOCK_PROCESS_CPUTIME_ID) - begin < 0.8) {
    for (volatile int i = 0; i < 1000000; i++) {}
  }
  int in_time = woken;
  end_of(&w);
  return in_time;
}

int main(void) {
  // Mostly: others may have the processors for long.
  int woke = 0;
  for (int i = 0; i < 5; i++) woke += wakes_beside();
  SAY("a sleeper wakes in time beside one that computes", woke > 2);

  MUST(null = open("/dev/null", O_WRONLY));
  struct worker w;
  start(&w, writes_with_mutex, NULL);
  await_writes();
  for (int i = 0; i < 3; i++) {
    ERR("main has the mutex", pthread_mutex_lock(&mutex));
    ERR("  and unlocks it", pthread_mutex_unlock(&mutex));
  }
  done = 1;
  end_of(&w);

  done = 0;
  sem_init(&semaphore, 0, 1);
  start(&w, writes_with_semaphore, NULL);
  await_writes();
  for (int i = 0; i < 3; i++) {
    SAY("main has the semaphore", sem_wait(&semaphore));
    SAY("  and unlocks it", sem_post(&semaphore));
  }
  done = 1;
  end_of(&w);
  return 0;
}
