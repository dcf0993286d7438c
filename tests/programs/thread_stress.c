// Everything at once, in one process: accounts behind locks of all kinds, a queue behind
// conditions, readers and writers, threads that are cancelled at any point, signals to whichever
// thread runs, waits that time out, and children forked meanwhile. The output is what must hold
// however the threads take turns.
#include "threads.h"

#include <poll.h>
#include <semaphore.h>

enum {
  accounts = 8,
  movers = 6,
  moves = 400,
  producers = 3,
  items = 600,
  consumers = 4,
  mortals = 40,
  rounds = 150
};

static unsigned next_random(unsigned* seed) {
  return *seed = *seed * 1664525u + 1013904223u, *seed >> 8;
}

// --- accounts: a mutex for each, locked in order, or tried, or with a time-out ---

static pthread_mutex_t account_locks[accounts];
static long balances[accounts];
static void* moves_money(void* p) {
  unsigned seed = (unsigned)(intptr_t)p;
  for (int i = 0; i < moves; i++) {
    unsigned from = next_random(&seed) % accounts, to = next_random(&seed) % accounts;
    if (from == to) continue;
    unsigned first = from < to ? from : to, second = from < to ? to : from;
    struct timespec until = in_ms(CLOCK_REALTIME, 3600000);
    if (i % 3 == 0) {
      while (pthread_mutex_trylock(&account_locks[first])) sched_yield();
    } else if (i % 3 == 1) {
      if (pthread_mutex_timedlock(&account_locks[first], &until)) return (void*)1;
    } else {
      pthread_mutex_lock(&account_locks[first]);
    }
    pthread_mutex_lock(&account_locks[second]);
    long amount = (long)(next_random(&seed) % 100), before = balances[from];
    if (i % 16 == 0) sched_yield();
    if (i % 64 == 0) usleep(50);
    balances[from] = before - amount;
    balances[to] += amount;
    pthread_mutex_unlock(&account_locks[second]);
    pthread_mutex_unlock(&account_locks[first]);
  }
  return NULL;
}
static long sum_of_accounts(void) {
  long sum = 0;
  for (int i = 0; i < accounts; i++) pthread_mutex_lock(&account_locks[i]);
  for (int i = 0; i < accounts; i++) sum += balances[i];
  for (int i = accounts; i-- > 0;) pthread_mutex_unlock(&account_locks[i]);
  return sum;
}

// --- a queue behind conditions, whose waits time out ---

static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;
static int queue[7], queued, producing = producers;
static long made, taken;
static void* produces(void* p) {
  unsigned seed = (unsigned)(intptr_t)p;
  for (int i = 0; i < items; i++) {
    int item = (int)(next_random(&seed) % 1000);
    pthread_mutex_lock(&queue_lock);
    while (queued == 7) pthread_cond_wait(&not_full, &queue_lock);
    queue[queued++] = item;
    made += item;
    pthread_cond_signal(&not_empty);
    pthread_mutex_unlock(&queue_lock);
    if (i % 50 == 0) usleep(100);
  }
  pthread_mutex_lock(&queue_lock);
  if (--producing == 0) pthread_cond_broadcast(&not_empty);
  pthread_mutex_unlock(&queue_lock);
  return NULL;
}
static void* consumes(void* p) {
  pthread_mutex_lock(&queue_lock);
  while (queued || producing) {
    if (!queued) {
      struct timespec until = in_ms(CLOCK_REALTIME, 1);
      pthread_cond_timedwait(&not_empty, &queue_lock, &until);
      continue;
    }
    taken += queue[--queued];
    pthread_cond_signal(&not_full);
  }
  pthread_mutex_unlock(&queue_lock);
  return p;
}

// --- readers, writers and a semaphore ---

static pthread_rwlock_t pair_lock = PTHREAD_RWLOCK_INITIALIZER;
static long pair[2];
static int torn;
static sem_t gates;
static int inside, crowded;
static void* reads_pairs(void* p) {
  for (int i = 0; i < rounds * 4; i++) {
    while (sem_wait(&gates)) {}
    if (__atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST) > 3) crowded = 1;
    if (i % 32 == 0) sched_yield();
    __atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
    sem_post(&gates);
    pthread_rwlock_rdlock(&pair_lock);
    long first = pair[0];
    if (i % 8 == 0) sched_yield();
    if (first != pair[1]) torn = 1;
    pthread_rwlock_unlock(&pair_lock);
  }
  return p;
}
static void* writes_pairs(void* p) {
  for (int i = 0; i < rounds; i++) {
    struct timespec until = in_ms(CLOCK_REALTIME, 3600000);
    if (i % 2 ? pthread_rwlock_wrlock(&pair_lock) : pthread_rwlock_timedwrlock(&pair_lock, &until))
      return (void*)1;
    pair[0]++;
    if (i % 4 == 0) sched_yield();
    pair[1]++;
    pthread_rwlock_unlock(&pair_lock);
  }
  return p;
}

// --- threads that are cancelled, each with a lock, a key and a handler ---

static pthread_key_t key;
static int cleaned, destroyed, dead;
static pthread_mutex_t mortal_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static int idle_pipe[2];
static void counts_destroyed(void* p) {
  (void)p;
  __atomic_fetch_add(&destroyed, 1, __ATOMIC_SEQ_CST);
}
static void cleans(void* locked) {
  __atomic_fetch_add(&cleaned, 1, __ATOMIC_SEQ_CST);
  if (*(volatile int*)locked) pthread_mutex_unlock(&mortal_lock);
}
static sem_t born;
static void* is_mortal(void* p) {
  volatile int kind = (int)(intptr_t)p % 5, locked = 0;
  char c;
  pthread_cleanup_push(cleans, (void*)&locked);
  pthread_setspecific(key, &cleaned);
  sem_post(&born);
  if (kind == 0) {
    for (;;) sleep(1000);
  } else if (kind == 1) {
    while (read(idle_pipe[0], &c, 1)) {}
  } else if (kind == 2) {
    pthread_mutex_lock(&mortal_lock);
    locked = 1;
    for (;;) pthread_cond_wait(&never, &mortal_lock);
  } else if (kind == 3) {
    struct pollfd f = {.fd = idle_pipe[0], .events = POLLIN};
    while (poll(&f, 1, 100000)) {}
  } else {
    for (;;) pthread_testcancel(), sched_yield();
  }
  pthread_cleanup_pop(1);
  return NULL;
}
static void* kills_mortals(void* p) {
  for (int i = 0; i < mortals; i += 5) {
    struct worker w[5];
    void* r;
    for (int k = 0; k < 5; k++) start(&w[k], is_mortal, (void*)(intptr_t)(i + k));
    for (int k = 0; k < 5; k++) {
      while (sem_wait(&born)) {}
    }
    if (i % 2) usleep(100);
    for (int k = 0; k < 5; k++) pthread_cancel(w[k].id);
    for (int k = 0; k < 5; k++) pthread_join(w[k].id, &r), dead += r == PTHREAD_CANCELED;
  }
  return p;
}

// --- signals to threads that compute, sleep and wait ---

static int signals_sent, signals_seen, wrong_thread, stop_receiving;
static __thread int my_signals;
static __thread struct worker* volatile myself;
static void counts_signal(int signal) {
  (void)signal;
  my_signals++;
  __atomic_fetch_add(&signals_seen, 1, __ATOMIC_SEQ_CST);
  if (!myself || !pthread_equal(myself->id, pthread_self())) wrong_thread = 1;
}
static sem_t receiving;
static void* receives(void* p) {
  myself = p;
  sem_post(&receiving);
  unsigned work = 0;
  while (!__atomic_load_n(&stop_receiving, __ATOMIC_ACQUIRE)) {
    struct timespec t = {0, 100000};
    for (int i = 0; i < 1000; i++) next_random(&work);
    if (work % 2) nanosleep(&t, NULL);
    else sched_yield();
  }
  return NULL;
}
static void* sends_signals(void* p) {
  // Each waits for its signal to be handled before it sends the next, since otherwise the two would
  // be merged.
  struct worker* w = p;
  for (int i = 0; i < rounds; i++) {
    int before = __atomic_load_n(&signals_seen, __ATOMIC_SEQ_CST);
    if (pthread_kill(w[i % 3].id, SIGUSR1) == 0) signals_sent++;
    while (__atomic_load_n(&signals_seen, __ATOMIC_SEQ_CST) == before) sched_yield();
  }
  __atomic_store_n(&stop_receiving, 1, __ATOMIC_RELEASE);
  return NULL;
}

// --- children ---

static void lock_all(void) {
  for (int i = 0; i < accounts; i++) pthread_mutex_lock(&account_locks[i]);
}
static void unlock_all(void) {
  for (int i = accounts; i-- > 0;) pthread_mutex_unlock(&account_locks[i]);
}
static void* adds_in_child(void* p) {
  pthread_mutex_lock(&account_locks[0]);
  balances[0] += (intptr_t)p;
  pthread_mutex_unlock(&account_locks[0]);
  return NULL;
}
static void* forks(void* p) {
  long right = 0;
  (void)p;
  for (int i = 0; i < 10; i++) {
    pid_t child = fork();
    if (child == 0) {
      struct worker w[3];
      for (int k = 0; k < 3; k++) start(&w[k], adds_in_child, (void*)1);
      for (int k = 0; k < 3; k++) end_of(&w[k]);
      _exit(sum_of_accounts() == 8003 ? 5 : 6);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    right += WIFEXITED(status) && WEXITSTATUS(status) == 5;
    usleep(500);
  }
  return (void*)(intptr_t)right;
}

// --- waits that time out ---

static void* times_out(void* p) {
  pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t nobody = PTHREAD_COND_INITIALIZER;
  sem_t none;
  long right = 0;
  (void)p;
  sem_init(&none, 0, 0);
  pthread_mutex_lock(&own);
  for (int i = 0; i < 30; i++) {
    struct timespec until = in_ms(CLOCK_REALTIME, 1), now;
    if (i % 2) right += pthread_cond_timedwait(&nobody, &own, &until) == ETIMEDOUT;
    else right += sem_timedwait(&none, &until) == -1 && errno == ETIMEDOUT;
    clock_gettime(CLOCK_REALTIME, &now);
    right +=
        now.tv_sec > until.tv_sec || (now.tv_sec == until.tv_sec && now.tv_nsec >= until.tv_nsec);
  }
  return (void*)right;
}

int main(void) {
  struct worker m[movers], p[producers], c[consumers], r[3], w[2], k, g[3], s, f, t[2];
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_handler = counts_signal;
  a.sa_flags = SA_RESTART;
  MUST(sigaction(SIGUSR1, &a, NULL));
  pthread_mutexattr_t kind;
  pthread_mutexattr_init(&kind);
  for (int i = 0; i < accounts; i++) {
    static const int kinds[] = {PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_RECURSIVE,
                                PTHREAD_MUTEX_ADAPTIVE_NP};
    pthread_mutexattr_settype(&kind, kinds[i % 3]);
    pthread_mutex_init(&account_locks[i], &kind);
    balances[i] = 1000;
  }
  // Recursive mutexes store their owner's id, which is another one in a child.
  pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_NORMAL);
  for (int i = 1; i < accounts; i += 3) pthread_mutex_init(&account_locks[i], &kind);
  sem_init(&gates, 0, 3);
  sem_init(&born, 0, 0);
  sem_init(&receiving, 0, 0);
  pthread_key_create(&key, counts_destroyed);
  MUST(pipe(idle_pipe));
  pthread_atfork(lock_all, unlock_all, unlock_all);

  for (int i = 0; i < movers; i++) start(&m[i], moves_money, (void*)(intptr_t)(i + 1));
  for (int i = 0; i < producers; i++) start(&p[i], produces, (void*)(intptr_t)(i + 1));
  for (int i = 0; i < consumers; i++) start(&c[i], consumes, NULL);
  for (int i = 0; i < 3; i++) start(&r[i], reads_pairs, NULL);
  for (int i = 0; i < 2; i++) start(&w[i], writes_pairs, NULL);
  for (int i = 0; i < 2; i++) start(&t[i], times_out, NULL);
  start(&k, kills_mortals, NULL);
  for (int i = 0; i < 3; i++) start(&g[i], receives, &g[i]);
  for (int i = 0; i < 3; i++) {
    while (sem_wait(&receiving)) {}
  }
  start(&s, sends_signals, g);
  start(&f, forks, NULL);

  long failed = 0, right = 0;
  for (int i = 0; i < movers; i++) failed += end_of(&m[i]) != NULL;
  for (int i = 0; i < producers; i++) end_of(&p[i]);
  for (int i = 0; i < consumers; i++) end_of(&c[i]);
  for (int i = 0; i < 3; i++) end_of(&r[i]);
  for (int i = 0; i < 2; i++) failed += end_of(&w[i]) != NULL;
  for (int i = 0; i < 2; i++) right += (intptr_t)end_of(&t[i]);
  end_of(&k);
  end_of(&s);
  for (int i = 0; i < 3; i++) end_of(&g[i]);
  long children = (intptr_t)end_of(&f);

  SAY("locks that timed out", failed);
  SAY("the sum of all accounts", sum_of_accounts());
  SAY("everything made was taken", made == taken && made > 0);
  SAY("left in the queue", queued);
  SAY("writes", pair[0] + pair[1]);
  SAY("pairs seen torn", torn);
  SAY("more than three inside", crowded);
  SAY("waits that timed out, and not early", right);
  SAY("threads cancelled", dead);
  SAY("their handlers", cleaned);
  SAY("their destructors", destroyed);
  SAY("the lock is free", pthread_mutex_trylock(&mortal_lock));
  SAY("signals sent", signals_sent);
  SAY("  and handled", signals_seen);
  SAY("  by another thread", wrong_thread);
  SAY("children that found all whole", children);
  return 0;
}
