// pthread_once(3) with routines that wait, are cancelled or leave; pthread_barrier_wait(3),
// pthread_spin_lock(3), sched_yield(2).
#include "threads.h"

#include <sys/mman.h>

static pthread_once_t control = PTHREAD_ONCE_INIT;
static volatile int calls, go;
static int nap[2];

static void* once_in_thread(void* routine) {
  int e = pthread_once(&control, (void (*)(void))routine);
  return (void*)(intptr_t)(e ? 1000 + e : calls);
}

static void waits(void) {
  char c;
  calls++;
  read(nap[0], &c, 1);
}
static void counts(void) { calls++; }
static void is_left(void) {
  calls++;
  if (calls == 1) pthread_exit("left");
}
static void is_cancelled(void) {
  calls++;
  if (calls > 1) return;
  go = 1;
  for (;;) pause();
}
static void forks(void) {
  fflush(stdout);
  pid_t child = fork();
  calls++;
  if (child == 0) _exit(0);
  int status;
  waitpid(child, &status, 0);
}

static void once(void) {
  struct worker w[5];
  MUST(pipe(nap));
  for (int i = 0; i < 5; i++) start(&w[i], once_in_thread, waits);
  for (int i = 0; i < 5; i++) await_waiting(&w[i]);
  SAY("calls, while the first of five waits", calls);
  write(nap[1], "x", 1);
  for (int i = 0; i < 5; i++) SAY("  seen after it", (intptr_t)end_of(&w[i]));
  ERR("once more", pthread_once(&control, waits));

  control = PTHREAD_ONCE_INIT;
  calls = 0;
  start(&w[0], once_in_thread, is_left);
  SAY("a routine that is left by pthread_exit", strcmp(end_of(&w[0]), "left"));
  start(&w[0], once_in_thread, is_left);
  SAY("is called again", (intptr_t)end_of(&w[0]));

  control = PTHREAD_ONCE_INIT;
  calls = go = 0;
  start(&w[0], once_in_thread, is_cancelled);
  while (!go) sched_yield();
  for (int i = 1; i < 4; i++) start(&w[i], once_in_thread, is_cancelled);
  for (int i = 1; i < 4; i++) await_waiting(&w[i]);
  ERR("cancel", pthread_cancel(w[0].id));
  SAY("a routine that is cancelled", end_of(&w[0]) == PTHREAD_CANCELED);
  for (int i = 1; i < 4; i++) SAY("  is called by a waiter", (intptr_t)end_of(&w[i]));

  control = PTHREAD_ONCE_INIT;
  calls = 0;
  start(&w[0], once_in_thread, forks);
  SAY("a routine that forks", (intptr_t)end_of(&w[0]));

  // In a child process, the routine that was running in the parent is called again.
  control = PTHREAD_ONCE_INIT;
  calls = 0;
  start(&w[0], once_in_thread, waits);
  await_waiting(&w[0]);
  fflush(stdout);
  pid_t child = MUST(fork());
  if (child == 0) {
    ERR("once in a child", pthread_once(&control, counts));
    SAY("  calls", calls);
    _exit(0);
  }
  int status;
  MUST(waitpid(child, &status, 0));
  SAY("the child's status", status);
  write(nap[1], "x", 1);
  end_of(&w[0]);
}

static pthread_barrier_t barrier;
static volatile int arrived, serial;
static void* meets(void* rounds) {
  for (long i = 0; i < (intptr_t)rounds; i++) {
    __atomic_fetch_add(&arrived, 1, __ATOMIC_SEQ_CST);
    int e = pthread_barrier_wait(&barrier);
    if (e == PTHREAD_BARRIER_SERIAL_THREAD) __atomic_fetch_add(&serial, 1, __ATOMIC_SEQ_CST);
    else if (e) printf("pthread_barrier_wait: %d\n", e);
    if (arrived < 5 * (i + 1)) printf("too early\n");
    pthread_barrier_wait(&barrier);
  }
  return NULL;
}

static void* passes(void* b) {
  int e = pthread_barrier_wait(b);
  return (void*)(intptr_t)(e == PTHREAD_BARRIER_SERIAL_THREAD);
}

static void barriers(void) {
  struct worker w[5];
  ERR("a barrier for none", pthread_barrier_init(&barrier, NULL, 0));
  ERR("a barrier for one", pthread_barrier_init(&barrier, NULL, 1));
  ERR("  does not wait", pthread_barrier_wait(&barrier));
  ERR("  destroy", pthread_barrier_destroy(&barrier));
  pthread_barrier_init(&barrier, NULL, 5);
  for (int i = 0; i < 5; i++) start(&w[i], meets, (void*)100);
  for (int i = 0; i < 5; i++) end_of(&w[i]);
  SAY("one serial thread each of 100 rounds", serial);
  ERR("  destroy", pthread_barrier_destroy(&barrier));
  for (int i = 0; i < 100; i++) {
    pthread_barrier_t b;
    pthread_barrier_init(&b, NULL, 2);
    start(&w[0], passes, &b);
    int e = pthread_barrier_wait(&b);
    // As soon as this thread has left the barrier.
    if (e == PTHREAD_BARRIER_SERIAL_THREAD) pthread_barrier_destroy(&b);
    intptr_t other = (intptr_t)end_of(&w[0]);
    if ((e == PTHREAD_BARRIER_SERIAL_THREAD) + other != 1) printf("not one serial thread\n");
  }
  pthread_barrierattr_t a;
  pthread_barrierattr_init(&a);
  pthread_barrierattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
  pthread_barrier_t* s =
      mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_barrier_init(s, &a, 4);
  pid_t child = MUST(fork());
  if (child == 0) _exit(pthread_barrier_wait(s) > 0);
  for (int i = 0; i < 2; i++) start(&w[i], passes, s);
  int e = pthread_barrier_wait(s);
  if (e > 0) printf("a shared barrier: %d\n", e);
  for (int i = 0; i < 2; i++) end_of(&w[i]);
  int status;
  MUST(waitpid(child, &status, 0));
  SAY("a barrier of two processes", status);
  ERR("  destroy", pthread_barrier_destroy(s));
}

static pthread_spinlock_t spin;
static volatile long sum;
static void* spins(void* unused) {
  for (int i = 0; i < 1000; i++) {
    if (i % 2) pthread_spin_lock(&spin);
    else
      while (pthread_spin_trylock(&spin) == EBUSY) {}
    long v = sum;
    if (i % 8 == 0) sched_yield();
    sum = v + 1;
    pthread_spin_unlock(&spin);
  }
  return unused;
}
static void* sleeps_with_it(void* unused) {
  pthread_spin_lock(&spin);
  go = 1;
  usleep(2000);
  pthread_spin_unlock(&spin);
  return unused;
}

static void spinlocks(void) {
  struct worker w[4];
  ERR("spin init", pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE));
  ERR("spin lock", pthread_spin_lock(&spin));
  ERR("spin trylock of a held one", pthread_spin_trylock(&spin));
  ERR("spin unlock", pthread_spin_unlock(&spin));
  ERR("spin trylock", pthread_spin_trylock(&spin));
  ERR("spin unlock", pthread_spin_unlock(&spin));
  go = 0;
  start(&w[0], sleeps_with_it, NULL);
  while (!go) sched_yield();
  ERR("spinning while the holder sleeps", pthread_spin_lock(&spin));
  pthread_spin_unlock(&spin);
  end_of(&w[0]);
  for (int i = 0; i < 4; i++) start(&w[i], spins, NULL);
  for (int i = 0; i < 4; i++) end_of(&w[i]);
  SAY("four that spin count", sum);
  ERR("spin destroy", pthread_spin_destroy(&spin));
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static void* holds_for_a_while(void* unused) {
  pthread_mutex_lock(&mutex);
  go = 1;
  usleep(2000);
  pthread_mutex_unlock(&mutex);
  return unused;
}
static void* sets(void* unused) {
  go = 1;
  return unused;
}

static void yielding(void) {
  struct worker w;
  go = 0;
  start(&w, sets, NULL);
  while (!go) sched_yield();
  SAY("sched_yield lets others run", sched_yield());
  end_of(&w);
  go = 0;
  start(&w, holds_for_a_while, NULL);
  while (!go) sched_yield();
  while (pthread_mutex_trylock(&mutex) == EBUSY) {}
  SAY("and so does a thread that tries a mutex repeatedly", pthread_mutex_unlock(&mutex));
  end_of(&w);
}

int main(void) {
  once();
  barriers();
  spinlocks();
  yielding();
  return 0;
}
