// Attributes of threads: stacks, names, processors, scheduling, ids; the errors of creating,
// joining and detaching a thread; robust mutexes whose owner ends.
#include "threads.h"

#include <grp.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static char* stack;
static volatile int go;

static void* tells_stack(void* unused) {
  pthread_attr_t a;
  void* base;
  size_t size, guard;
  int detached;
  char here;
  ERR("  getattr_np", pthread_getattr_np(pthread_self(), &a));
  pthread_attr_getstack(&a, &base, &size);
  pthread_attr_getguardsize(&a, &guard);
  pthread_attr_getdetachstate(&a, &detached);
  printf("  stack size %zu, guard %zu, detached %d, we are on it: %d", size, guard, detached,
         &here > (char*)base && &here < (char*)base + size);
  if (stack) printf(", at the given address: %d", base == stack);
  printf("\n");
  pthread_attr_destroy(&a);
  return unused;
}

static void* uses_stack(void* deep) {
  char some[1024];
  memset(some, 1, sizeof some);
  if ((intptr_t)deep > 0) uses_stack((void*)((intptr_t)deep - 1));
  __asm__ volatile("" : : "r"(some) : "memory");
  return NULL;
}

static void stacks(void) {
  struct worker w;
  pthread_attr_t a;
  pthread_attr_init(&a);
  printf("default attributes\n");
  start(&w, tells_stack, NULL);
  end_of(&w);
  printf("of the main thread\n");
  pthread_getattr_np(pthread_self(), &a);
  void* base;
  size_t size;
  pthread_attr_getstack(&a, &base, &size);
  SAY("  we are on it", (char*)&a > (char*)base && (char*)&a < (char*)base + size);
  pthread_attr_init(&a);
  size_t sizes[] = {PTHREAD_STACK_MIN, 64 << 10, 1 << 20};
  for (int i = 0; i < 3; i++) {
    printf("a stack of %zu\n", sizes[i]);
    ERR("  setstacksize", pthread_attr_setstacksize(&a, sizes[i]));
    pthread_attr_setguardsize(&a, i == 2 ? 0 : 4096);
    start_with(&w, &a, i ? tells_stack : uses_stack, (void*)(intptr_t)(i ? 0 : 4));
    end_of(&w);
    start_with(&w, &a, uses_stack, (void*)(intptr_t)((sizes[i] - 12000) / 1200));
    end_of(&w);
  }
  ERR("too small a stack", pthread_attr_setstacksize(&a, PTHREAD_STACK_MIN - 1));
  pthread_attr_init(&a);
  stack = mmap(NULL, 1 << 18, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ERR("the program's stack", pthread_attr_setstack(&a, stack, 1 << 18));
  start_with(&w, &a, tells_stack, NULL);
  end_of(&w);
  start_with(&w, &a, uses_stack, (void*)150);
  end_of(&w);
  pthread_attr_setstack(&a, stack, PTHREAD_STACK_MIN);
  start_with(&w, &a, uses_stack, (void*)3);
  end_of(&w);
  stack = NULL;
  pthread_attr_init(&a);
  pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
  printf("a detached one\n");
  int fd[2];
  MUST(pipe(fd));
  start_with(&w, &a, tells_stack, NULL);
  await_waiting(&w);
  pthread_attr_setdetachstate(&a, PTHREAD_CREATE_JOINABLE);
  pthread_attr_setstacksize(&a, (size_t)1 << 46);
  pthread_t id;
  ERR("a stack larger than memory", pthread_create(&id, &a, tells_stack, NULL));
}

static void* names(void* unused) {
  char name[32];
  ERR("  getname_np", pthread_getname_np(pthread_self(), name, sizeof name));
  printf("  %s\n", name);
  ERR("  setname_np", pthread_setname_np(pthread_self(), "worker"));
  ERR("  setname_np, 15 letters", pthread_setname_np(pthread_self(), "123456789012345"));
  ERR("  setname_np, 16 letters", pthread_setname_np(pthread_self(), "1234567890123456"));
  ERR("  getname_np, little room", pthread_getname_np(pthread_self(), name, 15));
  ERR("  getname_np, enough", pthread_getname_np(pthread_self(), name, 16));
  printf("  %s\n", name);
  SAY("  PR_SET_NAME, long", prctl(PR_SET_NAME, "another name that is long"));
  SAY("  PR_GET_NAME", prctl(PR_GET_NAME, name));
  printf("  %s\n", name);
  go = 1;
  while (go == 1) usleep(100);
  return unused;
}

static void naming(void) {
  struct worker w;
  char name[32];
  MUST(prctl(PR_SET_NAME, "first"));
  go = 0;
  start(&w, names, NULL);
  while (!go) usleep(100);
  ERR("another's getname_np", pthread_getname_np(w.id, name, sizeof name));
  printf("%s\n", name);
  ERR("another's setname_np", pthread_setname_np(w.id, "given"));
  pthread_getname_np(w.id, name, sizeof name);
  printf("%s\n", name);
  prctl(PR_GET_NAME, name);
  printf("and the main thread's: %s\n", name);
  go = 2;
  end_of(&w);
}

static void* waits(void* unused) {
  while (!go) usleep(100);
  return unused;
}

static void scheduling(void) {
  struct worker w;
  struct sched_param p = {0};
  int policy;
  cpu_set_t set, none, mine;
  go = 0;
  start(&w, waits, NULL);
  while (!w.tid) sched_yield();
  ERR("getschedparam", pthread_getschedparam(w.id, &policy, &p));
  printf("policy %d, priority %d\n", policy, p.sched_priority);
  ERR("setschedparam to SCHED_BATCH", pthread_setschedparam(w.id, SCHED_BATCH, &p));
  pthread_getschedparam(w.id, &policy, &p);
  printf("policy %d, priority %d; by number %d\n", policy, p.sched_priority,
         sched_getscheduler(w.tid));
  p.sched_priority = 5;
  ERR("SCHED_OTHER with a priority", pthread_setschedparam(w.id, SCHED_OTHER, &p));
  ERR("an unknown policy", pthread_setschedparam(w.id, 77, &p));
  ERR("setschedprio", pthread_setschedprio(w.id, 5));
  p.sched_priority = 1000;
  ERR("SCHED_FIFO beyond its priorities", pthread_setschedparam(w.id, SCHED_FIFO, &p));
  p.sched_priority = 0;
  SAY("sched_setscheduler by number", sched_setscheduler(w.tid, SCHED_IDLE, &p));
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t deadline[3];
  } all = {.size = 48};
  all.policy = SCHED_BATCH;
  SAY("sched_setattr by number", syscall(SYS_sched_setattr, w.tid, &all, 0));
  all.policy = 77;
  SAY("sched_getattr, that much", syscall(SYS_sched_getattr, w.tid, &all, sizeof all, 0));
  SAY("  policy", all.policy);
  all.priority = 1;
  SAY("sched_setattr with a priority that is none", syscall(SYS_sched_setattr, w.tid, &all, 0));
  SAY("sched_setattr with unknown flags", syscall(SYS_sched_setattr, w.tid, &all, 77));
  SAY("sched_setattr of a missing thread", syscall(SYS_sched_setattr, 0x3ffffff0, &all, 0));
  SAY("sched_getattr into nothing", syscall(SYS_sched_getattr, w.tid, NULL, 48, 0));
  SAY("sched_getscheduler by number", sched_getscheduler(w.tid));
  all.policy = SCHED_OTHER, all.priority = 0, all.flags = 1;
  SAY("sched_setattr with SCHED_FLAG_RESET_ON_FORK", syscall(SYS_sched_setattr, w.tid, &all, 0));
  all.flags = 0;
  SAY("sched_getattr", syscall(SYS_sched_getattr, w.tid, &all, sizeof all, 0));
  SAY("  tells the flag", all.flags & 1);
  SAY("  and not with the policy", all.policy);
  SAY("  but sched_getscheduler does", sched_getscheduler(w.tid));
  SAY("sched_getparam by number", sched_getparam(w.tid, &p));
  SAY("sched_getscheduler of a missing thread", sched_getscheduler(1 << 30));
  ERR("setschedparam of the main thread", pthread_getschedparam(pthread_self(), &policy, &p));
  printf("policy %d\n", policy);
  CPU_ZERO(&none);
  CPU_ZERO(&mine);
  sched_getaffinity(0, sizeof mine, &mine);
  ERR("getaffinity_np", pthread_getaffinity_np(w.id, sizeof set, &set));
  SAY("  as the process's", CPU_EQUAL(&set, &mine));
  ERR("setaffinity_np to none", pthread_setaffinity_np(w.id, sizeof none, &none));
  CPU_SET(0, &none);
  ERR("setaffinity_np to the first", pthread_setaffinity_np(w.id, sizeof none, &none));
  pthread_getaffinity_np(w.id, sizeof set, &set);
  SAY("  is kept", CPU_EQUAL(&set, &none));
  SAY("sched_getaffinity by number", sched_getaffinity(w.tid, sizeof set, &set));
  SAY("  is the same", CPU_EQUAL(&set, &none));
  sched_getaffinity(0, sizeof set, &set);
  SAY("  and the main thread keeps its own", CPU_EQUAL(&set, &mine));
  clockid_t clock;
  struct timespec t;
  ERR("getcpuclockid", pthread_getcpuclockid(w.id, &clock));
  SAY("  which reports the time", clock_gettime(clock, &t));
  go = 1;
  end_of(&w);
}

static void* returns(void* p) { return p; }
static void* joins(void* p) { return (void*)(intptr_t)pthread_join(*(pthread_t*)p, NULL); }
static pthread_t main_id;

// Before any thread has been created.
static void without_memory(void) {
  if (getenv("SANITIZED")) return;  // a sanitizer's run-time library needs memory
  if (peer()) {
    pthread_t id;
    struct rlimit before, little;
    MUST(getrlimit(RLIMIT_AS, &before));
    little = (struct rlimit){10 << 20, before.rlim_max};
    MUST(setrlimit(RLIMIT_AS, &little));
    for (size_t size = 1 << 20; size >= 4096; size /= 2) {
      while (mmap(NULL, size, PROT_NONE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0) != MAP_FAILED) {}
    }
    int e = pthread_create(&id, NULL, returns, NULL);
    MUST(setrlimit(RLIMIT_AS, &before));
    ERR("the first thread, without memory", e);
    ERR("  with memory", pthread_create(&id, NULL, returns, NULL));
    ERR("  joined", pthread_join(id, NULL));
    leave();
  }
  peer_ends();
}

static void making(void) {
  struct worker w, j;
  pthread_attr_t a;
  struct sched_param p = {.sched_priority = 1000};
  pthread_t id;
  pthread_attr_init(&a);
  pthread_attr_setschedpolicy(&a, SCHED_FIFO);
  ERR("a priority beyond FIFO's", pthread_attr_setschedparam(&a, &p));
  go = 0;
  start(&w, waits, NULL);
  ERR("tryjoin of a running thread", pthread_tryjoin_np(w.id, NULL));
  struct timespec t = in_ms(CLOCK_REALTIME, 3);
  ERR("timedjoin of a running thread", pthread_timedjoin_np(w.id, NULL, &t));
  t = in_ms(CLOCK_MONOTONIC, 3);
  ERR("clockjoin of a running thread", pthread_clockjoin_np(w.id, NULL, CLOCK_MONOTONIC, &t));
  start(&j, joins, &w.id);
  await_waiting(&j);
  go = 1;
  SAY("the other's join", (intptr_t)end_of(&j));
  ERR("join of oneself", pthread_join(pthread_self(), NULL));
  go = 0;
  start(&w, waits, NULL);
  ERR("detach", pthread_detach(w.id));
  ERR("detach again", pthread_detach(w.id));
  ERR("join of a detached one", pthread_join(w.id, NULL));
  go = 1;
  while (!w.tid) sched_yield();
  for (int i = 0; i < 3; i++) {
    start(&w, returns, (void*)(intptr_t)(40 + i));
    await_waiting(&w);
    if (i == 1) ERR("cancel of a thread that has returned", pthread_cancel(w.id));
    SAY("join of a thread that has returned", (intptr_t)end_of(&w));
  }
  (void)id;
}

static pthread_mutex_t robust;
static void* dies_with_it(void* again) {
  ERR("  lock by a thread that ends with it", pthread_mutex_lock(&robust));
  if (again) pthread_mutex_consistent(&robust);
  if (again) pthread_exit(NULL);
  return NULL;
}
static void* waits_for_it(void* unused) {
  (void)unused;
  int e = pthread_mutex_lock(&robust);
  if (e == EOWNERDEAD) pthread_mutex_consistent(&robust);
  pthread_mutex_unlock(&robust);
  return (void*)(intptr_t)e;
}
static void* ends_when_told(void* unused) {
  pthread_mutex_lock(&robust);
  go = 1;
  while (go == 1) usleep(100);
  return unused;
}

static void robustness(int shared, int type) {
  struct worker w, x;
  pthread_mutexattr_t a;
  printf("a robust mutex, shared %d, type %d\n", shared, type);
  pthread_mutexattr_init(&a);
  pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&a, shared);
  pthread_mutexattr_settype(&a, type);
  pthread_mutex_init(&robust, &a);
  for (long i = 0; i < 2; i++) {
    start(&w, dies_with_it, (void*)i);
    end_of(&w);
    ERR("lock after its end", pthread_mutex_lock(&robust));
    ERR("consistent", pthread_mutex_consistent(&robust));
    ERR("consistent again", pthread_mutex_consistent(&robust));
    ERR("unlock", pthread_mutex_unlock(&robust));
  }
  ERR("trylock", pthread_mutex_trylock(&robust));
  if (type == PTHREAD_MUTEX_ERRORCHECK) ERR("lock again", pthread_mutex_lock(&robust));
  ERR("unlock", pthread_mutex_unlock(&robust));
  go = 0;
  start(&w, ends_when_told, NULL);
  while (!go) usleep(100);
  ERR("trylock of another's", pthread_mutex_trylock(&robust));
  start(&x, waits_for_it, NULL);
  await_waiting(&x);
  go = 2;
  end_of(&w);
  ERR("a waiter sees its owner's end", (int)(intptr_t)end_of(&x));
  start(&w, dies_with_it, NULL);
  end_of(&w);
  ERR("lock after its end", pthread_mutex_lock(&robust));
  ERR("unlock, not consistent", pthread_mutex_unlock(&robust));
  ERR("lock of an unrecoverable one", pthread_mutex_lock(&robust));
  ERR("trylock of an unrecoverable one", pthread_mutex_trylock(&robust));
  pthread_mutex_destroy(&robust);
}

static pthread_mutex_t pi;
static void* locks_pi(void* unused) {
  for (int i = 0; i < 100; i++) {
    pthread_mutex_lock(&pi);
    if (i % 10 == 0) sched_yield();
    go++;
    pthread_mutex_unlock(&pi);
  }
  return unused;
}
static void inheriting(int protocol) {
  struct worker w[3];
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  ERR("setprotocol", pthread_mutexattr_setprotocol(&a, protocol));
  ERR("init", pthread_mutex_init(&pi, &a));
  go = 0;
  for (int i = 0; i < 3; i++) start(&w[i], locks_pi, NULL);
  for (int i = 0; i < 3; i++) end_of(&w[i]);
  SAY("counted", go);
  pthread_mutex_lock(&pi);
  ERR("trylock of a held one", pthread_mutex_trylock(&pi));
  pthread_mutex_unlock(&pi);
  ERR("destroy", pthread_mutex_destroy(&pi));
}

static void* locks_without_priority(void* m) {
  ERR("lock by a thread that has none", pthread_mutex_lock(m));
  return NULL;
}
static void protecting(void) {
  struct worker w;
  pthread_mutex_t m;
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  ERR("a priority ceiling", pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_PROTECT));
  ERR("init", pthread_mutex_init(&m, &a));
  start(&w, locks_without_priority, &m);
  end_of(&w);
  ERR("destroy", pthread_mutex_destroy(&m));
}

static void* own_attributes(void* p) {
  pthread_attr_t a;
  size_t guard;
  sigset_t mask;
  pthread_getattr_np(pthread_self(), &a);
  pthread_attr_getguardsize(&a, &guard);
  pthread_attr_destroy(&a);
  pthread_sigmask(SIG_BLOCK, NULL, &mask);
  printf("  guard %zu, SIGUSR1 blocked %d\n", guard, sigismember(&mask, SIGUSR1));
  return p;
}
// The effect of the process's and the creator's attributes on a new thread.
static void defaults(void) {
  struct worker w;
  pthread_attr_t before, a;
  pthread_getattr_default_np(&before);
  pthread_getattr_default_np(&a);
  sigset_t usr1;
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  pthread_attr_setsigmask_np(&a, &usr1);
  pthread_attr_setguardsize(&a, 8192);
  ERR("setattr_default_np", pthread_setattr_default_np(&a));
  start(&w, own_attributes, NULL);
  end_of(&w);
  pthread_setattr_default_np(&before);
  start(&w, own_attributes, NULL);
  end_of(&w);
  cpu_set_t none;
  CPU_ZERO(&none);
  ERR("no processor", pthread_attr_setaffinity_np(&a, sizeof none, &none));
  pthread_t id;
  ERR("  is none to run on", pthread_create(&id, &a, own_attributes, NULL));
  pthread_attr_destroy(&a);
  pthread_attr_destroy(&before);
}

static void* own_policy(void* p) {
  int policy;
  struct sched_param priority;
  pthread_getschedparam(pthread_self(), &policy, &priority);
  printf("  policy %d, priority %d\n", policy, priority.sched_priority);
  return p;
}
static void inheriting_policy(void) {
  struct worker w;
  struct sched_param none = {0};
  ERR("main is SCHED_BATCH", pthread_setschedparam(pthread_self(), SCHED_BATCH, &none));
  start(&w, own_policy, NULL);
  end_of(&w);
  ERR("main is SCHED_OTHER", pthread_setschedparam(pthread_self(), SCHED_OTHER, &none));
}

// The identity of the whole process is set (here to the same one), by whichever thread.
static void* asks_for_identity(void* p) {
  gid_t groups[64];
  int n = getgroups(64, groups);
  pid_t me = gettid();
  SAY("setresuid", setresuid(getuid(), geteuid(), (uid_t)-1));
  SAY("  the thread is still itself", gettid() == me);
  SAY("setregid", setregid(getgid(), getegid()));
  SAY("setgid", setgid(getgid()));
  if (geteuid() == 0) SAY("setgroups", setgroups((size_t)n, groups));
  else SAY("setgroups", 0);
  return p;
}
// Several threads do so at the same time, while others begin and end.
static void* ends_at_once(void* p) { return p; }
static void* sets_often(void* p) {
  long failed = (long)p;
  for (int i = 0; i < 50; i++) failed += setresuid(getuid(), geteuid(), (uid_t)-1) != 0;
  return (void*)failed;
}
static void* makes_threads(void* p) {
  for (int i = 0; i < 50; i++) {
    pthread_t t;
    pthread_create(&t, NULL, ends_at_once, NULL);
    pthread_join(t, NULL);
  }
  return p;
}
static void identity_at_once(void) {
  pthread_t t[4];
  long failed = 0;
  for (int i = 0; i < 4; i++) pthread_create(&t[i], NULL, i % 2 ? makes_threads : sets_often, NULL);
  for (int i = 0; i < 4; i++) {
    void* r;
    pthread_join(t[i], &r);
    failed += (long)r;
  }
  SAY("calls that failed", failed);
}
static void* waits_in_barrier(void* b) {
  pthread_barrier_wait(b);
  return NULL;
}
static void identity(void) {
  struct worker w, other;
  pthread_barrier_t b;
  pthread_barrier_init(&b, NULL, 2);
  start(&other, waits_in_barrier, &b);
  await_waiting(&other);
  puts("in a thread");
  start(&w, asks_for_identity, NULL);
  end_of(&w);
  puts("in main");
  asks_for_identity(NULL);
  pthread_barrier_wait(&b);
  end_of(&other);
}

int main(void) {
  main_id = pthread_self();
  without_memory();
  stacks();
  naming();
  scheduling();
  making();
  for (int shared = 0; shared < 2; shared++) {
    robustness(shared, PTHREAD_MUTEX_NORMAL);
    robustness(shared, PTHREAD_MUTEX_ERRORCHECK);
  }
  inheriting(PTHREAD_PRIO_NONE);
  inheriting(PTHREAD_PRIO_INHERIT);
  protecting();
  defaults();
  inheriting_policy();
  identity();
  puts("in several threads at once");
  identity_at_once();
  return 0;
}
