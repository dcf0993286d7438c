// Condition variables, of one process and of several.
#include "threads.h"

#include <sys/mman.h>

struct meeting {
  pthread_mutex_t mutex;
  pthread_cond_t condition;
  int waiting, tokens, taken;
};

static void set_up(struct meeting* m, int shared, int type) {
  pthread_mutexattr_t ma;
  pthread_condattr_t ca;
  pthread_mutexattr_init(&ma);
  pthread_condattr_init(&ca);
  if (shared) {
    pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
    pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
  }
  pthread_mutexattr_settype(&ma, type);
  pthread_mutex_init(&m->mutex, &ma);
  pthread_cond_init(&m->condition, &ca);
  m->waiting = m->tokens = m->taken = 0;
}

// Waits for a token and takes it.
static void* takes(void* p) {
  struct meeting* m = p;
  pthread_mutex_lock(&m->mutex);
  m->waiting++;
  int e = 0;
  while (m->tokens == 0 && e == 0) e = pthread_cond_wait(&m->condition, &m->mutex);
  m->tokens--;
  m->taken++;
  pthread_mutex_unlock(&m->mutex);
  return (void*)(intptr_t)e;
}

static void await_number(struct meeting* m, int* what, int n) {
  for (;;) {
    pthread_mutex_lock(&m->mutex);
    int now = *what;
    pthread_mutex_unlock(&m->mutex);
    if (now >= n) return;
    sched_yield();
  }
}

static void give(struct meeting* m, int n, int broadcast) {
  pthread_mutex_lock(&m->mutex);
  m->tokens += n;
  if (broadcast) ERR("  broadcast", pthread_cond_broadcast(&m->condition));
  else
    for (int i = 0; i < n; i++) ERR("  signal", pthread_cond_signal(&m->condition));
  pthread_mutex_unlock(&m->mutex);
}

static int unlocked;
static void unlocks(void* mutex) { unlocked = pthread_mutex_unlock(mutex); }
static void* waits_to_be_cancelled(void* p) {
  struct meeting* m = p;
  pthread_mutex_lock(&m->mutex);
  pthread_cleanup_push(unlocks, &m->mutex);
  m->waiting++;
  for (;;) pthread_cond_wait(&m->condition, &m->mutex);
  pthread_cleanup_pop(0);
  return NULL;
}

static void threads(struct meeting* m) {
  struct worker w[4];
  ERR("signal without waiters", pthread_cond_signal(&m->condition));
  for (int i = 0; i < 4; i++) start(&w[i], takes, m);
  await_number(m, &m->waiting, 4);
  puts("four wait");
  ERR("their mutex cannot be destroyed", pthread_mutex_destroy(&m->mutex));
  give(m, 1, 0);
  await_number(m, &m->taken, 1);
  give(m, 3, 1);
  for (int i = 0; i < 4; i++) SAY("  one got its token", (intptr_t)end_of(&w[i]));

  m->waiting = 0;
  start(&w[0], waits_to_be_cancelled, m);
  start(&w[1], takes, m);
  await_number(m, &m->waiting, 2);
  ERR("one of two that wait is cancelled", pthread_cancel(w[0].id));
  SAY("  and ends so", end_of(&w[0]) == PTHREAD_CANCELED);
  ERR("  its handler had the mutex", unlocked);
  give(m, 1, 0);
  SAY("  the other is woken", (intptr_t)end_of(&w[1]));
}

static void limits(struct meeting* m) {
  pthread_mutex_lock(&m->mutex);
  struct timespec t = in_ms(CLOCK_REALTIME, 5);
  int e;
  do e = pthread_cond_timedwait(&m->condition, &m->mutex, &t);
  while (e == 0);
  ERR("timedwait", e);
  t = in_ms(CLOCK_MONOTONIC, 5);
  do e = pthread_cond_clockwait(&m->condition, &m->mutex, CLOCK_MONOTONIC, &t);
  while (e == 0);
  ERR("clockwait", e);
  ERR("clockwait by another clock",
      pthread_cond_clockwait(&m->condition, &m->mutex, CLOCK_BOOTTIME, &t));
  t.tv_nsec = 1000000000;
  ERR("no time", pthread_cond_timedwait(&m->condition, &m->mutex, &t));
  ERR("the mutex is held", pthread_mutex_unlock(&m->mutex));
  ERR("wait without the mutex", pthread_cond_wait(&m->condition, &m->mutex));
  // Whoever did not get to wait does not get the next signal either.
  struct worker w;
  m->waiting = 0;
  start(&w, takes, m);
  await_number(m, &m->waiting, 1);
  ERR("wait without the mutex behind another", pthread_cond_wait(&m->condition, &m->mutex));
  for (int i = 0; i < 2; i++) {
    if (i) {
      start(&w, takes, m);
      await_number(m, &m->waiting, i + 1);
    }
    give(m, 1, 0);
    SAY("the next signal wakes the next waiter", (intptr_t)end_of(&w));
  }
}

// A condition whose time-outs are times of its own clock.
static void clocks(int shared, clockid_t clock) {
  struct meeting m;
  pthread_condattr_t a;
  set_up(&m, shared, PTHREAD_MUTEX_NORMAL);
  pthread_condattr_init(&a);
  if (shared) pthread_condattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
  ERR("an attribute's clock", pthread_condattr_setclock(&a, clock));
  pthread_cond_init(&m.condition, &a);
  pthread_mutex_lock(&m.mutex);
  struct timespec t = in_ms(clock, 5);
  int e;
  do e = pthread_cond_timedwait(&m.condition, &m.mutex, &t);
  while (e == 0);
  double now = seconds_on(clock);
  ERR("timedwait by it", e);
  SAY("  when that time has come", now >= (double)t.tv_sec + (double)t.tv_nsec / 1e9);
  pthread_mutex_unlock(&m.mutex);
  ERR("destroy", pthread_cond_destroy(&m.condition));
}

static void* does_nothing(void* p) {
  pause();
  return p;
}

static void processes(struct meeting* m) {
  struct worker other;
  start(&other, does_nothing, NULL);
  ERR("wait without the mutex beside another thread", pthread_cond_wait(&m->condition, &m->mutex));
  m->waiting = m->taken = 0;
  fflush(stdout);
  pid_t child = MUST(fork());
  if (child == 0) _exit((int)(intptr_t)takes(m));
  await_number(m, &m->waiting, 1);
  puts("another process waits");
  give(m, 1, 0);
  int status;
  MUST(waitpid(child, &status, 0));
  SAY("  and got its token", status);

  struct worker w[2];
  m->waiting = 0;
  for (int i = 0; i < 2; i++) start(&w[i], takes, m);
  await_number(m, &m->waiting, 2);
  fflush(stdout);
  child = MUST(fork());
  if (child == 0) {
    give(m, 2, 1);
    fflush(stdout);
    _exit(0);
  }
  for (int i = 0; i < 2; i++)
    SAY("a thread got a token of another process", (intptr_t)end_of(&w[i]));
  MUST(waitpid(child, &status, 0));
  pthread_cancel(other.id);
  end_of(&other);
}

int main(void) {
  struct meeting mine;
  set_up(&mine, 0, PTHREAD_MUTEX_ERRORCHECK);
  threads(&mine);
  limits(&mine);
  ERR("destroy", pthread_cond_destroy(&mine.condition));
  clocks(0, CLOCK_REALTIME);
  clocks(0, CLOCK_MONOTONIC);
  puts("-- shared by processes");
  struct meeting* shared =
      mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  set_up(shared, 1, PTHREAD_MUTEX_ERRORCHECK);
  threads(shared);
  limits(shared);
  processes(shared);
  ERR("destroy", pthread_cond_destroy(&shared->condition));
  clocks(1, CLOCK_REALTIME);
  clocks(1, CLOCK_MONOTONIC);
  return 0;
}
