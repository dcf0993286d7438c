// Robust mutexes: a thread that locks one whose owner has ended gets EOWNERDEAD, however the owner
// ended, and whichever thread of its process held it; within a process and between several.
#include "threads.h"

#include <sys/mman.h>

enum { many = 50 };
struct shared {
  pthread_mutex_t mutex, others[many];
  int ready;
};
static struct shared* s;

static void set_up(pthread_mutex_t* m, int type, int pshared) {
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_settype(&a, type);
  pthread_mutexattr_setpshared(&a, pshared);
  pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
  memset(m, 0, sizeof *m);
  pthread_mutex_init(m, &a);
}

static void is_ready(void) { __atomic_fetch_add(&s->ready, 1, __ATOMIC_SEQ_CST); }
static void await_ready(int n) {
  while (__atomic_load_n(&s->ready, __ATOMIC_SEQ_CST) < n) sched_yield();
}

static void* locks(void* m) { return (void*)(intptr_t)pthread_mutex_lock(m); }
static void* locks_and_waits(void* m) {
  pthread_mutex_lock(m);
  is_ready();
  for (;;) pause();
  return NULL;
}
static void* locks_and_unlocks(void* m) {
  int e = pthread_mutex_lock(m);
  if (e == EOWNERDEAD) pthread_mutex_consistent(m);
  pthread_mutex_unlock(m);
  return (void*)(intptr_t)e;
}
static void* locks_and_exits(void* m) {
  pthread_mutex_lock(m);
  pthread_exit(NULL);
}
static void* locks_twice(void* m) {
  pthread_mutex_lock(m);
  pthread_mutex_lock(m);
  return NULL;
}

static void recovered(pthread_mutex_t* m) {
  ERR("  the next owner gets", pthread_mutex_lock(m));
  ERR("  consistent", pthread_mutex_consistent(m));
  ERR("  unlock", pthread_mutex_unlock(m));
  ERR("  then all is well", pthread_mutex_lock(m));
  ERR("  consistent, which it is", pthread_mutex_consistent(m));
  ERR("  unlock", pthread_mutex_unlock(m));
}

static void threads_end(int type, int pshared) {
  struct worker w, next[3];
  pthread_mutex_t* m = &s->mutex;
  set_up(m, type, pshared);
  start(&w, locks, m);
  end_of(&w);
  puts("a thread returns");
  recovered(m);
  start(&w, locks_and_exits, m);
  end_of(&w);
  puts("a thread exits");
  recovered(m);
  s->ready = 0;
  start(&w, locks_and_waits, m);
  await_ready(1);
  ERR("trylock of what a thread holds", pthread_mutex_trylock(m));
  struct timespec soon = in_ms(CLOCK_REALTIME, 5);
  ERR("timedlock", pthread_mutex_timedlock(m, &soon));
  ERR("unlock by another one", pthread_mutex_unlock(m));
  ERR("consistent", pthread_mutex_consistent(m));
  for (int i = 0; i < 3; i++) start(&next[i], locks_and_unlocks, m), await_waiting(&next[i]);
  pthread_cancel(w.id);
  SAY("a thread is cancelled", end_of(&w) == PTHREAD_CANCELED);
  int dead = 0, good = 0;
  for (int i = 0; i < 3; i++) {
    int e = (int)(intptr_t)end_of(&next[i]);
    dead += e == EOWNERDEAD;
    good += e == 0;
  }
  SAY("  one of three waiters gets EOWNERDEAD", dead);
  SAY("  the others have it as usual", good);
  start(&w, locks_twice, m);
  if (type == PTHREAD_MUTEX_RECURSIVE) {
    end_of(&w);
    puts("a thread that has it twice ends");
    recovered(m);
  } else if (type == PTHREAD_MUTEX_ERRORCHECK) {
    end_of(&w);
    puts("a thread that wanted it twice ends");
    ERR("  trylock", pthread_mutex_trylock(m));
    ERR("  trylock again", pthread_mutex_trylock(m));
    ERR("  lock again", pthread_mutex_lock(m));
    ERR("  unlock, and it is lost", pthread_mutex_unlock(m));
    ERR("  lock", pthread_mutex_lock(m));
    ERR("  trylock", pthread_mutex_trylock(m));
    ERR("  destroy", pthread_mutex_destroy(m));
    return;
  } else {
    await_waiting(&w);
    pthread_cond_t c = PTHREAD_COND_INITIALIZER;
    ERR("wait for a condition with another's mutex", pthread_cond_wait(&c, m));
    return;
  }
  pthread_cond_t c = PTHREAD_COND_INITIALIZER;
  ERR("lock", pthread_mutex_lock(m));
  ERR("lock again", pthread_mutex_lock(m));
  ERR("unlock", pthread_mutex_unlock(m));
  soon = in_ms(CLOCK_REALTIME, 5);
  ERR("wait for a condition", pthread_cond_timedwait(&c, m, &soon));
  ERR("unlock", pthread_mutex_unlock(m));
  ERR("unlock too often", pthread_mutex_unlock(m));
  ERR("destroy", pthread_mutex_destroy(m));
}

static int status_of(pid_t child) {
  int status;
  while (waitpid(child, &status, 0) < 0) {}
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static void* returns(void* p) { return p; }

// A process whose threads hold one mutex each, and how it ends.
static void processes_end(const char* how, int sig, int threads) {
  struct worker w[many], next;
  s->ready = 0;
  set_up(&s->mutex, PTHREAD_MUTEX_NORMAL, PTHREAD_PROCESS_SHARED);
  for (int i = 0; i < many; i++)
    set_up(&s->others[i], PTHREAD_MUTEX_NORMAL, PTHREAD_PROCESS_SHARED);
  fflush(stdout);
  pid_t child = MUST(fork());
  if (child == 0) {
    for (int i = 0; i < threads; i++) start(&w[i], locks_and_waits, &s->others[i]);
    start(&next, returns, NULL);
    end_of(&next);
    pthread_mutex_lock(&s->mutex);
    await_ready(threads);
    is_ready();
    if (!sig) _exit(0);
    for (;;) pause();
  }
  await_ready(threads + 1);
  ERR(how, pthread_mutex_trylock(&s->mutex));
  start(&next, locks_and_unlocks, &s->mutex);
  if (sig) {
    await_waiting(&next);
    kill(child, sig);
  }
  ERR("  a waiter gets", (int)(intptr_t)end_of(&next));
  SAY("  its end", status_of(child));
  int dead = 0;
  for (int i = 0; i < threads; i++) dead += pthread_mutex_lock(&s->others[i]) == EOWNERDEAD;
  SAY("  what its threads held", dead);
  for (int i = 0; i < threads; i++) pthread_mutex_unlock(&s->others[i]);
  if (threads) ERR("  and is lost now", pthread_mutex_lock(&s->others[0]));
}

static void exec_ends(void) {
  struct worker w;
  s->ready = 0;
  set_up(&s->mutex, PTHREAD_MUTEX_NORMAL, PTHREAD_PROCESS_SHARED);
  fflush(stdout);
  pid_t child = MUST(fork());
  if (child == 0) {
    start(&w, returns, NULL);
    end_of(&w);
    pthread_mutex_lock(&s->mutex);
    execlp("sleep", "sleep", "1000", (char*)NULL);
    _exit(9);
  }
  int e;
  while ((e = pthread_mutex_trylock(&s->mutex)) != EOWNERDEAD) {
    if (e == 0) pthread_mutex_unlock(&s->mutex);
    sched_yield();
  }
  ERR("the owner has called exec", e);
  pthread_mutex_unlock(&s->mutex);
  kill(child, SIGKILL);
  status_of(child);
}

// A child must not release the mutexes that the parent's threads hold.
static void forks(void) {
  struct worker w;
  s->ready = 0;
  set_up(&s->mutex, PTHREAD_MUTEX_NORMAL, PTHREAD_PROCESS_SHARED);
  set_up(&s->others[0], PTHREAD_MUTEX_NORMAL, PTHREAD_PROCESS_SHARED);
  start(&w, locks_and_waits, &s->mutex);
  await_ready(1);
  fflush(stdout);
  pid_t child = MUST(fork());
  if (child == 0) {
    pthread_mutex_lock(&s->others[0]);
    _exit(0);
  }
  SAY("a child of a process that holds one ends", status_of(child));
  ERR("  what the parent's thread holds", pthread_mutex_trylock(&s->mutex));
  ERR("  what the child held", pthread_mutex_trylock(&s->others[0]));
  pthread_cancel(w.id);
  end_of(&w);
  ERR("  the parent's thread has ended", pthread_mutex_lock(&s->mutex));
}

int main(void) {
  s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  const int types[] = {PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_NORMAL};
  for (int i = 0; i < 3; i++) {
    printf("-- type %d, of one process\n", i);
    threads_end(types[i], PTHREAD_PROCESS_PRIVATE);
    // (The mutex that a thread of the last round still waits for is the same one.)
    if (i < 2) {
      printf("-- type %d, of several\n", i);
      threads_end(types[i], PTHREAD_PROCESS_SHARED);
    }
  }
  s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  printf("-- processes\n");
  processes_end("held by a process that is killed", SIGKILL, 0);
  processes_end("held by a process with threads that is killed", SIGKILL, many);
  processes_end("held by a process with threads that is terminated", SIGTERM, 3);
  exec_ends();
  forks();
  return 0;
}
