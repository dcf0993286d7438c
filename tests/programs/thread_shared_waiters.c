// Very many threads of two processes wait for locks that the processes share. Each counts as one
// waiter, so exactly as many go on as are released. They also wait for shared futexes.
#include "threads.h"

#include <linux/futex.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { all = 1000, some = 20 };

struct shared {
  pthread_mutex_t mutex, gate;
  pthread_cond_t condition;
  pthread_rwlock_t rwlock;
  pthread_barrier_t barrier;
  sem_t semaphore;
  int begun, passed, tokens, serial, writing;
  uint32_t word;
};
static struct shared* s;

static void count(int* what) { __atomic_fetch_add(what, 1, __ATOMIC_SEQ_CST); }
static void await(int* what, int n) {
  while (__atomic_load_n(what, __ATOMIC_SEQ_CST) < n) usleep(200);
}

static void* takes_semaphore(void* p) {
  count(&s->begun);
  while (sem_wait(&s->semaphore)) {}
  count(&s->passed);
  return p;
}
static void* takes_token(void* p) {
  pthread_mutex_lock(&s->mutex);
  s->begun++;
  while (s->tokens == 0) pthread_cond_wait(&s->condition, &s->mutex);
  s->tokens--;
  s->passed++;
  pthread_mutex_unlock(&s->mutex);
  return p;
}
// Waits without a condition: the number of threads that wait once is the number not woken.
static void* waits_once(void* p) {
  pthread_mutex_lock(&s->mutex);
  s->begun++;
  pthread_cond_wait(&s->condition, &s->mutex);
  s->passed++;
  pthread_mutex_unlock(&s->mutex);
  return p;
}
static void* takes_mutex(void* p) {
  count(&s->begun);
  pthread_mutex_lock(&s->gate);
  s->passed++;
  pthread_mutex_unlock(&s->gate);
  return p;
}
// One in four writes, two read, and one does not wait as long.
static void* uses_rwlock(void* p) {
  int turn = __atomic_fetch_add(&s->begun, 1, __ATOMIC_SEQ_CST);
  struct timespec soon = in_ms(CLOCK_REALTIME, 1);
  int r = turn % 8 == 0   ? pthread_rwlock_timedwrlock(&s->rwlock, &soon)
          : turn % 8 == 4 ? pthread_rwlock_timedrdlock(&s->rwlock, &soon)
          : turn % 4 == 1 ? pthread_rwlock_wrlock(&s->rwlock)
                          : pthread_rwlock_rdlock(&s->rwlock);
  if (turn % 4 == 0) {
    if (r != ETIMEDOUT) printf("one did not wait: %d\n", r);
    count(&s->tokens);
    return p;
  }
  int others = turn % 4 == 1 ? __atomic_fetch_add(&s->writing, 1, __ATOMIC_SEQ_CST)
                             : __atomic_load_n(&s->writing, __ATOMIC_SEQ_CST);
  if (r || others) printf("%d, with %d that write\n", r, others);
  if (turn % 16 == 1) sched_yield();
  if (turn % 4 == 1) __atomic_fetch_sub(&s->writing, 1, __ATOMIC_SEQ_CST);
  count(&s->passed);
  if (pthread_rwlock_unlock(&s->rwlock)) printf("not unlocked\n");
  return p;
}
static void* meets(void* p) {
  for (int i = 0; i < 3; i++) {
    if (pthread_barrier_wait(&s->barrier) == PTHREAD_BARRIER_SERIAL_THREAD) count(&s->serial);
  }
  return p;
}
static void* waits_for_word(void* p) {
  count(&s->begun);
  syscall(SYS_futex, &s->word, FUTEX_WAIT, 0, NULL, NULL, 0);
  count(&s->passed);
  return p;
}

// Runs `n` threads in each of two processes, and `meanwhile` in this one.
static void in_two_processes(int n, void* (*run)(void*), void (*meanwhile)(int)) {
  static struct worker w[all];
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 64 * 1024);
  s->begun = s->passed = s->tokens = 0;
  fflush(stdout);
  pid_t child[2];
  for (int c = 0; c < 2; c++) {
    child[c] = MUST(fork());
    if (child[c]) continue;
    for (int i = 0; i < n; i++) start_with(&w[i], &small, run, NULL);
    for (int i = 0; i < n; i++) end_of(&w[i]);
    _exit(0);
  }
  if (meanwhile) meanwhile(2 * n);
  for (int c = 0; c < 2; c++) {
    int status;
    while (waitpid(child[c], &status, 0) < 0) {}
    if (status) printf("a process ended with %x\n", status);
  }
}

static void post_all(int n) {
  await(&s->begun, n);
  for (int i = 0; i < n / 2; i++) sem_post(&s->semaphore);
  await(&s->passed, n / 2);
  SAY("as many pass as were let", s->passed);
  for (int i = 0; i < n / 2; i++) sem_post(&s->semaphore);
}
static int locked(int* what) {
  pthread_mutex_lock(&s->mutex);
  int n = *what;
  pthread_mutex_unlock(&s->mutex);
  return n;
}
static void await_locked(int* what, int n) {
  while (locked(what) < n) usleep(200);
}
static void give_all(int n) {
  await_locked(&s->begun, n);
  for (int i = 0; i < n / 2; i++) {
    pthread_mutex_lock(&s->mutex);
    s->tokens++;
    pthread_cond_signal(&s->condition);
    pthread_mutex_unlock(&s->mutex);
  }
  await_locked(&s->passed, n / 2);
  SAY("as many have a token as were given", s->passed);
  pthread_mutex_lock(&s->mutex);
  s->tokens += n / 2;
  pthread_cond_broadcast(&s->condition);
  pthread_mutex_unlock(&s->mutex);
}
static void signal_each(int n) {
  await_locked(&s->begun, n);
  for (int i = 0; i < n; i++) {
    pthread_mutex_lock(&s->mutex);
    pthread_cond_signal(&s->condition);
    pthread_mutex_unlock(&s->mutex);
    await_locked(&s->passed, i + 1);
    if (locked(&s->passed) != i + 1) printf("one signal woke more than one\n");
  }
}
static void unlock(void* mutex) { pthread_mutex_unlock(mutex); }
// Of two that wait, the first is cancelled and the condition is signalled: the second goes on, as a
// thread that is cancelled takes no signal.
static void* waits_cancelled(void* p) {
  int* woken = p;
  pthread_mutex_lock(&s->mutex);
  pthread_cleanup_push(unlock, &s->mutex);
  s->begun++;
  pthread_cond_wait(&s->condition, &s->mutex);
  ++*woken;
  pthread_cleanup_pop(1);
  return p;
}
static void cancel_and_signal(void) {
  int woken = 0;
  for (int i = 0; i < 20; i++) {
    struct worker first, second;
    s->begun = 0;
    start(&first, waits_cancelled, &woken);
    await_waiting(&first);
    start(&second, waits_cancelled, &woken);
    await_waiting(&second);
    pthread_mutex_lock(&s->mutex);
    if (i % 2) pthread_cancel(first.id);
    pthread_cond_signal(&s->condition);
    if (i % 2 == 0) pthread_cancel(first.id);
    pthread_mutex_unlock(&s->mutex);
    int was_woken = end_of(&first) != PTHREAD_CANCELED;
    // It may have taken the signal before it was cancelled.
    if (was_woken) {
      pthread_mutex_lock(&s->mutex);
      pthread_cond_signal(&s->condition);
      pthread_mutex_unlock(&s->mutex);
    }
    end_of(&second);
    woken -= was_woken;
  }
  SAY("the second was woken", woken);
}

static void open_gate(int n) {
  await(&s->begun, n);
  pthread_mutex_unlock(&s->gate);
}
static void open_rwlock(int n) {
  await(&s->begun, n);
  await(&s->tokens, n / 4);
  SAY("none has passed", s->passed);
  pthread_rwlock_unlock(&s->rwlock);
}
static void rwlocks(void) {
  pthread_rwlockattr_t a;
  for (int kind = PTHREAD_RWLOCK_PREFER_READER_NP;
       kind <= PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP; kind++) {
    pthread_rwlockattr_init(&a);
    pthread_rwlockattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    pthread_rwlockattr_setkind_np(&a, kind);
    pthread_rwlock_init(&s->rwlock, &a);
    printf("-- a read-write lock, kind %d\n", kind);
    for (int reads = 0; reads < 2; reads++) {
      if (reads) pthread_rwlock_rdlock(&s->rwlock);
      else pthread_rwlock_wrlock(&s->rwlock);
      if (reads) {
        // Readers beside it pass; a writer waits, for a time.
        struct timespec soon = in_ms(CLOCK_REALTIME, 3);
        ERR("a writer beside a reader", pthread_rwlock_timedwrlock(&s->rwlock, &soon));
        ERR("a reader beside it", pthread_rwlock_rdlock(&s->rwlock));
        pthread_rwlock_unlock(&s->rwlock);
        pthread_rwlock_unlock(&s->rwlock);
      } else {
        in_two_processes(some * 8, uses_rwlock, open_rwlock);
      }
      SAY("all had it", s->passed);
      ERR("it is free", pthread_rwlock_trywrlock(&s->rwlock));
      ERR("  for one", pthread_rwlock_tryrdlock(&s->rwlock));
      pthread_rwlock_unlock(&s->rwlock);
    }
  }
}
static void wake_each(int n) {
  await(&s->begun, n);
  for (int i = 0; i < n;) {
    long woken = syscall(SYS_futex, &s->word, FUTEX_WAKE, i < 5 ? 1 : 7, NULL, NULL, 0);
    if (woken > (i < 5 ? 1 : 7)) printf("more were woken than asked for\n");
    i += (int)woken;
    await(&s->passed, i);
    if (s->passed != i) printf("others went on than were woken\n");
    if (woken == 0) usleep(200);
  }
}

int main(void) {
  struct rlimit most;
  getrlimit(RLIMIT_NPROC, &most);
  s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_mutexattr_t m;
  pthread_condattr_t c;
  pthread_barrierattr_t b;
  pthread_mutexattr_init(&m);
  pthread_mutexattr_setpshared(&m, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(&s->mutex, &m);
  pthread_mutex_init(&s->gate, &m);
  pthread_condattr_init(&c);
  pthread_condattr_setpshared(&c, PTHREAD_PROCESS_SHARED);
  pthread_cond_init(&s->condition, &c);
  pthread_barrierattr_init(&b);
  pthread_barrierattr_setpshared(&b, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(&s->barrier, &b, 2 * some);
  sem_init(&s->semaphore, 1, 0);

  puts("-- a semaphore");
  in_two_processes(all, takes_semaphore, post_all);
  SAY("all have passed", s->passed);
  puts("-- a condition");
  in_two_processes(all, takes_token, give_all);
  SAY("all have a token", s->passed);
  puts("-- a condition, one signal for each");
  in_two_processes(some, waits_once, signal_each);
  SAY("all were woken", s->passed);
  puts("-- a condition, the first of two is cancelled");
  cancel_and_signal();
  puts("-- a mutex");
  pthread_mutex_lock(&s->gate);
  in_two_processes(all, takes_mutex, open_gate);
  SAY("all had it", s->passed);
  rwlocks();
  puts("-- a barrier");
  in_two_processes(some, meets, NULL);
  SAY("one serial thread each time", s->serial);
  puts("-- a futex, whose word stays as it is");
  in_two_processes(some, waits_for_word, wake_each);
  SAY("all were woken", s->passed);
  return 0;
}
