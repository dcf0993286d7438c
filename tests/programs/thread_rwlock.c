// pthread_rwlock_rdlock(3), _wrlock, their try, timed and clock forms, _unlock, and the kinds of
// pthread_rwlockattr_setkind_np(3).
#include "threads.h"

#include <sys/mman.h>

static pthread_rwlock_t lock;
static char order[64];
static volatile int counter;

static _Atomic size_t noted;

static void note(char c) { order[noted++] = c; }  // also by several readers at once
static void forget(void) {
  noted = 0;
  memset(order, 0, sizeof order);
}

static void* reads(void* name) {
  int e = pthread_rwlock_rdlock(&lock);
  if (e) return (void*)strerrorname_np(e);
  note(*(char*)name);
  pthread_rwlock_unlock(&lock);
  return NULL;
}
static void* writes(void* name) {
  int e = pthread_rwlock_wrlock(&lock);
  if (e) return (void*)strerrorname_np(e);
  note(*(char*)name);
  pthread_rwlock_unlock(&lock);
  return NULL;
}
static void* tries(void* unused) {
  (void)unused;
  ERR("  tryrdlock in another thread", pthread_rwlock_tryrdlock(&lock));
  ERR("  trywrlock in another thread", pthread_rwlock_trywrlock(&lock));
  return NULL;
}

static void init(int kind) {
  pthread_rwlockattr_t a;
  pthread_rwlockattr_init(&a);
  pthread_rwlockattr_setkind_np(&a, kind);
  ERR("init", pthread_rwlock_init(&lock, &a));
  pthread_rwlockattr_destroy(&a);
}

static void alone(void) {
  struct timespec past = {0, 0}, bad = {0, 1000000000}, soon;
  init(PTHREAD_RWLOCK_DEFAULT_NP);
  ERR("rdlock", pthread_rwlock_rdlock(&lock));
  ERR("rdlock again", pthread_rwlock_rdlock(&lock));
  ERR("tryrdlock of a read lock", pthread_rwlock_tryrdlock(&lock));
  ERR("trywrlock of a read lock", pthread_rwlock_trywrlock(&lock));
  ERR("timedwrlock of a read lock, in the past", pthread_rwlock_timedwrlock(&lock, &past));
  soon = in_ms(CLOCK_REALTIME, 10);
  ERR("timedwrlock of a read lock, soon", pthread_rwlock_timedwrlock(&lock, &soon));
  soon = in_ms(CLOCK_MONOTONIC, 10);
  ERR("clockwrlock of a read lock, soon",
      pthread_rwlock_clockwrlock(&lock, CLOCK_MONOTONIC, &soon));
  ERR("timedrdlock of a read lock, in the past", pthread_rwlock_timedrdlock(&lock, &past));
  ERR("timedrdlock with too many nanoseconds", pthread_rwlock_timedrdlock(&lock, &bad));
  ERR("clockrdlock by an odd clock",
      pthread_rwlock_clockrdlock(&lock, CLOCK_THREAD_CPUTIME_ID, &soon));
  ERR("clockwrlock by an odd clock", pthread_rwlock_clockwrlock(&lock, CLOCK_BOOTTIME, &soon));
  for (int i = 0; i < 4; i++) ERR("unlock", pthread_rwlock_unlock(&lock));
  ERR("trywrlock of a free one", pthread_rwlock_trywrlock(&lock));
  ERR("rdlock by the writer", pthread_rwlock_rdlock(&lock));
  ERR("wrlock by the writer", pthread_rwlock_wrlock(&lock));
  ERR("tryrdlock by the writer", pthread_rwlock_tryrdlock(&lock));
  ERR("trywrlock by the writer", pthread_rwlock_trywrlock(&lock));
  ERR("timedrdlock by the writer, in the past", pthread_rwlock_timedrdlock(&lock, &past));
  ERR("timedwrlock by the writer, with too many nanoseconds",
      pthread_rwlock_timedwrlock(&lock, &bad));
  ERR("unlock", pthread_rwlock_unlock(&lock));
  ERR("timedwrlock with too many nanoseconds of a free one",
      pthread_rwlock_timedwrlock(&lock, &bad));
  ERR("timedwrlock of a free one, in the past", pthread_rwlock_timedwrlock(&lock, &past));
  ERR("unlock", pthread_rwlock_unlock(&lock));
  ERR("destroy", pthread_rwlock_destroy(&lock));
}

// The order when a writer, then a reader wait behind a reader, and when several wait behind a
// writer.
static void orders(int kind) {
  struct worker w[6];
  init(kind);
  forget();
  pthread_rwlock_rdlock(&lock);
  start(&w[0], writes, "W");
  await_waiting(&w[0]);
  if (kind == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP) {
    ERR("tryrdlock past a writer", pthread_rwlock_tryrdlock(&lock));
  } else {
    ERR("rdlock past a writer", pthread_rwlock_rdlock(&lock));
    pthread_rwlock_unlock(&lock);
  }
  start(&w[1], reads, "r");
  await_waiting(&w[1]);
  note('u');
  pthread_rwlock_unlock(&lock);
  for (int i = 0; i < 2; i++) end_of(&w[i]);
  printf("behind a reader: %s\n", order);
  forget();
  pthread_rwlock_wrlock(&lock);
  start(&w[0], tries, NULL);
  end_of(&w[0]);
  start(&w[0], writes, "1");
  await_waiting(&w[0]);
  start(&w[1], reads, "r");
  await_waiting(&w[1]);
  start(&w[2], reads, "r");
  await_waiting(&w[2]);
  note('u');
  pthread_rwlock_unlock(&lock);
  for (int i = 0; i < 3; i++) end_of(&w[i]);
  printf("behind a writer: %s\n", order);
  ERR("destroy", pthread_rwlock_destroy(&lock));
}

static void* waits_till(void* p) {
  struct timespec t = in_ms(CLOCK_REALTIME, 20);
  return (void*)(intptr_t)(*(char*)p == 'w' ? pthread_rwlock_timedwrlock(&lock, &t)
                                            : pthread_rwlock_timedrdlock(&lock, &t));
}

static void times(void) {
  struct worker w, r;
  init(PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
  pthread_rwlock_rdlock(&lock);
  start(&w, waits_till, "w");
  await_waiting(&w);
  forget();
  start(&r, reads, "r");
  ERR("a writer behind a reader gives up", (int)(intptr_t)end_of(&w));
  end_of(&r);
  printf("and the reader behind it goes on: %s\n", order);
  pthread_rwlock_unlock(&lock);
  pthread_rwlock_wrlock(&lock);
  start(&r, waits_till, "r");
  ERR("a reader behind a writer gives up", (int)(intptr_t)end_of(&r));
  pthread_rwlock_unlock(&lock);
  ERR("and leaves it free", pthread_rwlock_trywrlock(&lock));
  pthread_rwlock_unlock(&lock);
}

static int value;
static void* mixes(void* p) {
  int writer = *(char*)p == 'w';
  for (int i = 0; i < 2000; i++) {
    if (writer) {
      pthread_rwlock_wrlock(&lock);
      int v = value;
      if (i % 16 == 0) sched_yield();
      value = v + 1;
    } else {
      pthread_rwlock_rdlock(&lock);
      int v = value;
      if (i % 16 == 0) sched_yield();
      if (value != v) printf("a writer among readers\n");
    }
    pthread_rwlock_unlock(&lock);
    if (i % 8 == 0) sched_yield();
  }
  return NULL;
}
static void mixture(int kind) {
  struct worker w[8];
  init(kind);
  value = 0;
  for (int i = 0; i < 8; i++) start(&w[i], mixes, i % 2 ? "w" : "r");
  for (int i = 0; i < 8; i++) end_of(&w[i]);
  printf("all writes were seen: %d\n", value);
}

static void* cancelled_writer(void* unused) {
  (void)unused;
  pthread_rwlock_wrlock(&lock);  // not a cancellation point
  note('w');
  pthread_rwlock_unlock(&lock);
  pthread_testcancel();
  note('!');
  return NULL;
}

static void cancels(void) {
  struct worker w;
  init(PTHREAD_RWLOCK_DEFAULT_NP);
  forget();
  pthread_rwlock_rdlock(&lock);
  start(&w, cancelled_writer, NULL);
  await_waiting(&w);
  pthread_cancel(w.id);
  await_waiting(&w);
  note('u');
  pthread_rwlock_unlock(&lock);
  SAY("a cancelled writer", end_of(&w) == PTHREAD_CANCELED);
  printf("waited for the lock first: %s\n", order);
}

static void* holds_shared(void* l) {
  pthread_rwlock_wrlock(l);
  counter = 1;
  while (counter == 1) sched_yield();
  pthread_rwlock_unlock(l);
  return NULL;
}

static void shared(void) {
  pthread_rwlockattr_t a;
  pthread_rwlock_t* l = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_rwlockattr_init(&a);
  pthread_rwlockattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
  pthread_rwlock_init(l, &a);
  struct worker w;
  counter = 0;
  start(&w, holds_shared, l);
  while (!counter) sched_yield();
  struct timespec t = in_ms(CLOCK_REALTIME, 10);
  ERR("timedrdlock of a shared lock that another thread holds", pthread_rwlock_timedrdlock(l, &t));
  counter = 2;
  ERR("wrlock of a shared one", pthread_rwlock_wrlock(l));
  ERR("wrlock of a shared one by the writer", pthread_rwlock_wrlock(l));
  ERR("unlock", pthread_rwlock_unlock(l));
  end_of(&w);
}

// A handler, with or without SA_RESTART, does not end a wait for such a lock.
static void handlers(void) {
  struct worker w;
  char r = 'r', x = 'x';
  for (int flags = 0; flags < 2; flags++) {
    for (int kind = 0; kind < 2; kind++) {
      init(PTHREAD_RWLOCK_DEFAULT_NP);
      forget();
      take_handled();
      on_signal(SIGUSR1, flags ? SA_RESTART : 0);
      pthread_rwlock_wrlock(&lock);
      start(&w, kind ? writes : reads, kind ? &x : &r);
      await_waiting(&w);
      pthread_kill(w.id, SIGUSR1);
      while (!handled) sched_yield();
      await_waiting(&w);
      note('h');
      pthread_rwlock_unlock(&lock);
      const char* e = end_of(&w);
      printf("a handler in %s: %s, %s\n", kind ? "wrlock" : "rdlock", e ? e : "0", order);
    }
  }
}

int main(void) {
  alone();
  handlers();
  for (int kind = 0; kind < 3; kind++) {
    printf("kind %d\n", kind);
    orders(kind);
    mixture(kind);
  }
  times();
  cancels();
  shared();
  return 0;
}
