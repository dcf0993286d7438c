// PTHREAD_CANCEL_ASYNCHRONOUS: a thread is cancelled at any point, also while it computes, but not
// before it enables that.
#include "threads.h"

#include <semaphore.h>

static sem_t there;
static volatile int go_on, cleaned;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;

static void clean(void* unused) {
  (void)unused;
  cleaned++;
}
static void at_once(void) { pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL); }
static void compute(void) {
  while (!go_on) {}
}
static void computes_in_handler(int unused) {
  (void)unused;
  sem_post(&there);
  compute();
}

// Each reports that it has started, and then stays there.
static void* computes(void* unused) {
  pthread_cleanup_push(clean, NULL);
  at_once();
  sem_post(&there);
  compute();
  pthread_cleanup_pop(0);
  return unused;
}
static void* computes_deep(void* depth) {
  pthread_cleanup_push(clean, NULL);
  if (depth) computes_deep((char*)depth - 1);
  else computes(NULL);
  pthread_cleanup_pop(0);
  return depth;
}
static void* is_signalled(void* unused) {
  pthread_cleanup_push(clean, NULL);
  at_once();
  pthread_kill(pthread_self(), SIGUSR1);
  pthread_cleanup_pop(0);
  return unused;
}
static void* gives_way(void* unused) {
  at_once();
  sem_post(&there);
  while (!go_on) sched_yield();
  return unused;
}
static void* waits_for_mutex(void* unused) {
  at_once();
  sem_post(&there);
  pthread_mutex_lock(&mutex);
  return unused;
}
static void* waits_for_lock(void* unused) {
  at_once();
  sem_post(&there);
  pthread_rwlock_wrlock(&lock);
  return unused;
}
static void* waits_at_barrier(void* unused) {
  at_once();
  sem_post(&there);
  pthread_barrier_wait(&barrier);
  return unused;
}

static void cancelled(const char* who, void* (*run)(void*), void* argument) {
  struct worker w;
  cleaned = 0;
  start(&w, run, argument);
  sem_wait(&there);
  MUST(-pthread_cancel(w.id));
  printf("%s: %s", who, end_of(&w) == PTHREAD_CANCELED ? "cancelled" : "went on");
  printf(", cleaned up %d\n", cleaned);
  fflush(stdout);
}

// --- and where it is not cancelled ---

static volatile int steps;

static void* computes_deferred(void* unused) {
  sem_post(&there);
  compute();
  steps++;
  return unused;
}
static void* computes_disabled(void* unused) {
  at_once();
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
  computes_deferred(NULL);
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
  steps++;
  return unused;
}
static void* asks_late(void* unused) {
  computes_deferred(NULL);
  at_once();
  steps++;
  return unused;
}
static void* asks_itself(void* unused) {
  sem_post(&there);
  at_once();
  steps++;
  pthread_cancel(pthread_self());
  steps++;
  return unused;
}

// Cancelled while it computes. (If the request was made before the thread enabled it, the C library
// does not specify which result it ends with.)
static void later(const char* who, void* (*run)(void*)) {
  struct worker w;
  go_on = steps = 0;
  start(&w, run, NULL);
  sem_wait(&there);
  if (run != asks_itself) MUST(-pthread_cancel(w.id));
  go_on = 1;
  end_of(&w);
  printf("%s: %d\n", who, steps);
  fflush(stdout);
  go_on = 0;
}

int main(void) {
  int state = -1, type = -1;
  pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state);
  pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &type);
  SAY("the main thread can be cancelled", state == PTHREAD_CANCEL_ENABLE);
  SAY("  but not at once", type == PTHREAD_CANCEL_DEFERRED);
  sem_init(&there, 0, 0);
  pthread_barrier_init(&barrier, NULL, 2);
  signal(SIGUSR1, computes_in_handler);
  cancelled("a thread that computes", computes, NULL);
  cancelled("deep in its calls", computes_deep, (void*)100);
  cancelled("in a signal handler", is_signalled, NULL);
  cancelled("a thread that only yields", gives_way, NULL);
  pthread_mutex_lock(&mutex);
  cancelled("a thread that waits for a mutex", waits_for_mutex, NULL);
  pthread_mutex_unlock(&mutex);
  SAY("  which is free then", pthread_mutex_trylock(&mutex));
  pthread_rwlock_rdlock(&lock);
  cancelled("for a lock", waits_for_lock, NULL);
  cancelled("at a barrier", waits_at_barrier, NULL);

  puts("steps that are made by");
  later("  a thread that did not enable it, and computes", computes_deferred);
  later("  a thread that disables cancellation until later", computes_disabled);
  later("  a thread that enables it later", asks_late);
  later("  a thread that cancels itself", asks_itself);
  return 0;
}
