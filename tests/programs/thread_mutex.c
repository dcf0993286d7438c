// Mutexes of one process and of several, of each type: who may lock and unlock them, how often, and
// until when.
#include "threads.h"

#include <limits.h>

static pthread_mutex_t mutex;

static void* tries(void* unused) {
  (void)unused;
  int e = pthread_mutex_trylock(&mutex);
  if (e == 0) pthread_mutex_unlock(&mutex);
  return (void*)(intptr_t)e;
}
static void* unlocks(void* unused) {
  (void)unused;
  return (void*)(intptr_t)pthread_mutex_unlock(&mutex);
}
static int elsewhere(void* (*run)(void*)) {
  struct worker w;
  start(&w, run, NULL);
  return (int)(intptr_t)end_of(&w);
}
static struct timespec invalid(void) {
  struct timespec t = in_ms(CLOCK_REALTIME, 0);
  t.tv_nsec = 1000000000;
  return t;
}

static void* waits_in_vain(void* unused) {
  const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC};
  struct timespec t = invalid();
  ERR("  timedlock, no time", pthread_mutex_timedlock(&mutex, &t));
  t = (struct timespec){-1, 0};
  ERR("  timedlock, before zero", pthread_mutex_timedlock(&mutex, &t));
  for (int i = 0; i < 2; i++) {
    t = in_ms(clocks[i], 5);
    ERR("  clocklock", pthread_mutex_clocklock(&mutex, clocks[i], &t));
    double now = seconds_on(clocks[i]);
    SAY("    when that time has come", now >= (double)t.tv_sec + (double)t.tv_nsec / 1e9);
  }
  t = in_ms(CLOCK_REALTIME, 5);
  ERR("  timedlock", pthread_mutex_timedlock(&mutex, &t));
  return unused;
}

static void all_types(int type) {
  struct worker w;
  struct timespec t = in_ms(CLOCK_BOOTTIME, 5);
  ERR("clocklock by another clock", pthread_mutex_clocklock(&mutex, CLOCK_BOOTTIME, &t));
  t = invalid();
  ERR("timedlock of a free one, no time", pthread_mutex_timedlock(&mutex, &t));
  ERR("its unlock", pthread_mutex_unlock(&mutex));
  ERR("lock", pthread_mutex_lock(&mutex));
  ERR("another thread tries", elsewhere(tries));
  ERR("destroy of a locked one", pthread_mutex_destroy(&mutex));
  start(&w, waits_in_vain, NULL);
  end_of(&w);
  if (type != PTHREAD_MUTEX_NORMAL) ERR("unlock by another thread", elsewhere(unlocks));
  ERR("unlock", pthread_mutex_unlock(&mutex));
  ERR("another thread tries", elsewhere(tries));
  if (type != PTHREAD_MUTEX_NORMAL) ERR("unlock of a free one", pthread_mutex_unlock(&mutex));
}

static void error_checking(void) {
  struct timespec t = in_ms(CLOCK_REALTIME, 5);
  ERR("lock", pthread_mutex_lock(&mutex));
  ERR("lock again", pthread_mutex_lock(&mutex));
  ERR("timedlock again", pthread_mutex_timedlock(&mutex, &t));
  ERR("trylock again", pthread_mutex_trylock(&mutex));
  ERR("unlock", pthread_mutex_unlock(&mutex));
}

static void recursive(void) {
  struct timespec t = in_ms(CLOCK_REALTIME, 5);
  ERR("lock", pthread_mutex_lock(&mutex));
  ERR("lock again", pthread_mutex_lock(&mutex));
  ERR("trylock again", pthread_mutex_trylock(&mutex));
  ERR("timedlock again", pthread_mutex_timedlock(&mutex, &t));
  for (int i = 0; i < 4; i++) {
    ERR("another thread tries", elsewhere(tries));
    ERR("unlock", pthread_mutex_unlock(&mutex));
  }
  ERR("another thread tries", elsewhere(tries));
  // As if it had been locked so often.
  ERR("lock", pthread_mutex_lock(&mutex));
  mutex.__data.__count = UINT_MAX;
  ERR("lock too often", pthread_mutex_lock(&mutex));
  ERR("trylock too often", pthread_mutex_trylock(&mutex));
  mutex.__data.__count = 1;
  ERR("unlock", pthread_mutex_unlock(&mutex));
}

int main(void) {
  const int types[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_RECURSIVE};
  const char* names[] = {"normal", "error-checking", "recursive"};
  for (int shared = 0; shared < 2; shared++) {
    for (int i = 0; i < 3; i++) {
      printf("-- %s%s\n", names[i], shared ? ", shared by processes" : "");
      pthread_mutexattr_t a;
      pthread_mutexattr_init(&a);
      pthread_mutexattr_settype(&a, types[i]);
      pthread_mutexattr_setpshared(&a, shared);
      ERR("init", pthread_mutex_init(&mutex, &a));
      all_types(types[i]);
      if (i == 1) error_checking();
      if (i == 2) recursive();
      ERR("destroy", pthread_mutex_destroy(&mutex));
    }
  }
  return 0;
}
