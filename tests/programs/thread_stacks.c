// Where the stacks of threads are and how much memory they take: sizes and guards as requested,
// also odd and huge ones; code on them; limits of address space; locked memory; and the memory that
// remains when threads have ended, although a timer ticks.
#include "threads.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/resource.h>

static sigjmp_buf back;
static void jumps_back(int signal) {
  (void)signal;
  siglongjmp(back, 1);
}
static int faults(volatile char* p, int writes) {
  if (sigsetjmp(back, 1)) return 1;
  if (writes) *p = 1;
  else (void)*p;
  return 0;
}

static void* tells_guard(void* unused) {
  pthread_attr_t a;
  char* low;
  size_t size, guard;
  char here;
  static char room[64 << 10];  // one after the other for the threads that are examined
  stack_t alternate = {.ss_sp = room, .ss_size = sizeof room};
  MUST(sigaltstack(&alternate, NULL));
  pthread_getattr_np(pthread_self(), &a);
  pthread_attr_getstack(&a, (void**)&low, &size);
  pthread_attr_getguardsize(&a, &guard);
  printf("  size %zu, guard %zu, on a page: %d, on it: %d, its lowest byte faults: %d", size, guard,
         (uintptr_t)low % 4096 == 0, &here >= low && &here < low + size, faults(low, 1));
  if (guard)
    printf(", the guard: %d %d %d", faults(low - 1, 1), faults(low - guard / 2, 1),
           faults(low - guard, 0));
  printf("\n");
  fflush(stdout);
  pthread_attr_destroy(&a);
  alternate.ss_flags = SS_DISABLE;
  MUST(sigaltstack(&alternate, NULL));
  return unused;
}
static void one(size_t size, size_t guard) {
  pthread_attr_t a;
  pthread_t t;
  pthread_attr_init(&a);
  printf("size %zu, guard %zu\n", size, guard);
  ERR("  setstacksize", pthread_attr_setstacksize(&a, size));
  ERR("  setguardsize", pthread_attr_setguardsize(&a, guard));
  int e = pthread_create(&t, &a, tells_guard, NULL);
  if (e) printf("  pthread_create: %s\n", strerrorname_np(e));
  else pthread_join(t, NULL);
}
static void sizes_and_guards(void) {
  struct sigaction action = {.sa_handler = jumps_back, .sa_flags = SA_ONSTACK};
  MUST(sigaction(SIGSEGV, &action, NULL));
  // Each size once: natively, the stack of an ended thread is reused for a smaller one.
  one(PTHREAD_STACK_MIN, 4096);
  one(PTHREAD_STACK_MIN + 1, 4096);
  one(33000, 1);
  one(81920, 8192);
  one(200000, 70000);
  one(1 << 20, 0);
  one((1 << 20) + 4096, 1 << 20);
  one((size_t)48 << 20, 4097);
  one((size_t)3 << 30, 4096);
  one((size_t)64 << 10, (size_t)1 << 30);
  one((size_t)1 << 46, 4096);
  one((size_t)1 << 20, (size_t)1 << 50);
  one((size_t)1 << 20, SIZE_MAX);
  one((size_t)1 << 20, SIZE_MAX - 4096);
  one(SIZE_MAX, 4096);
  signal(SIGSEGV, SIG_DFL);
}

static void* waits(void* unused) {
  pause();
  return unused;
}

// In a child: the number of threads that a limit of address space allows.
static void limited(void) {
  fflush(stdout);
  if (peer()) {
    struct rlimit limit = {(rlim_t)2 << 30, (rlim_t)2 << 30};
    pthread_t t;
    pthread_attr_t a;
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, 8 << 20);
    MUST(setrlimit(RLIMIT_AS, &limit));
    int n = 0;
    while (n < 1000 && pthread_create(&t, &a, waits, NULL) == 0) n++;
    printf("threads with 8 MB in 2 GB: %s\n",
           n > 225 && n < 256 ? "as many as fit" : "another number");
    fflush(stdout);
    leave();
  }
  peer_ends();
  if (peer()) {
    struct rlimit limit = {200 << 20, 200 << 20};
    pthread_t t[8];
    MUST(setrlimit(RLIMIT_AS, &limit));
    for (int i = 0; i < 2; i++) ERR("a thread in 200 MB", pthread_create(&t[i], NULL, waits, NULL));
    void* p = malloc(100 << 20);
    printf("malloc of 100 MB beside: %d\n", p != NULL);
    fflush(stdout);
    leave();
  }
  peer_ends();
}
static void* passes(void* barrier) {
  pthread_barrier_wait(barrier);
  return NULL;
}
// The address space of ended threads is available to others at once.
static void limited_afterwards(void) {
  fflush(stdout);
  if (peer()) {
    struct rlimit limit = {(rlim_t)1 << 30, (rlim_t)1 << 30};
    pthread_t t[80];
    pthread_barrier_t all;
    pthread_attr_t a;
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, 8 << 20);
    MUST(setrlimit(RLIMIT_AS, &limit));
    pthread_barrier_init(&all, NULL, 81);
    for (int i = 0; i < 80; i++) pthread_create(&t[i], &a, passes, &all);
    pthread_barrier_wait(&all);
    for (int i = 0; i < 80; i++) pthread_join(t[i], NULL);
    void* p = malloc(600 << 20);
    printf("malloc of 600 MB in 1 GB after 80 threads with 8 MB: %d\n", p != NULL);
    fflush(stdout);
    leave();
  }
  peer_ends();
}

static long status_kb(const char* field) {
  char line[200];
  long kb = -1;
  FILE* f = fopen("/proc/self/status", "r");
  while (f && fgets(line, sizeof line, f)) {
    if (strncmp(line, field, strlen(field)) == 0) kb = atol(line + strlen(field));
  }
  if (f) fclose(f);
  return kb;
}

static void locked(void) {
  fflush(stdout);
  if (peer()) {
    pthread_t t[4];
    pthread_attr_t a;
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, 1 << 20);
    SAY("mlockall", mlockall(MCL_CURRENT | MCL_FUTURE));
    long before = status_kb("VmLck:");
    for (int i = 0; i < 4; i++)
      ERR("a thread in locked memory", pthread_create(&t[i], &a, waits, NULL));
    long more = status_kb("VmLck:") - before;
    // Besides the stacks, there are the C library's arenas, and some libraries' own threads.
    printf("locked for four stacks of 1 MB: %s\n", before <= 0       ? "nothing"
                                                   : more < 12 << 10 ? "a few MB"
                                                                     : "much more");
    fflush(stdout);
    leave();
  }
  peer_ends();
}

enum { many = 2000 };
static pthread_barrier_t all_there, may_end;
static void* touches(void* unused) {
  char mine[40000];
  memset(mine, 1, sizeof mine);
  __asm__ volatile("" ::"r"(mine) : "memory");
  pthread_barrier_wait(&all_there);
  pthread_barrier_wait(&may_end);
  return unused;
}
// Waits for the memory without a limit, while a timer ticks; a test that hangs fails.
static void burst(int detached) {
  static pthread_t t[many];
  pthread_attr_t a;
  pthread_attr_init(&a);
  pthread_attr_setstacksize(&a, 128 << 10);
  pthread_attr_setdetachstate(&a, detached ? PTHREAD_CREATE_DETACHED : PTHREAD_CREATE_JOINABLE);
  pthread_barrier_init(&all_there, NULL, many + 1);
  pthread_barrier_init(&may_end, NULL, many + 1);
  for (int i = 0; i < many; i++) {
    int e = pthread_create(&t[i], &a, touches, NULL);
    if (e) printf("pthread_create: %s\n", strerrorname_np(e)), exit(97);
  }
  pthread_barrier_wait(&all_there);
  long peak = status_kb("VmRSS:");
  pthread_barrier_wait(&may_end);
  for (int i = 0; i < many && !detached; i++) pthread_join(t[i], NULL);
  for (long now = peak; now > peak / 4; now = status_kb("VmRSS:")) usleep(50000);
  printf("memory of %d %s threads has come back\n", many, detached ? "detached" : "joined");
  fflush(stdout);
}

// Threads that are there at once and have ended, all joined: most of their address space goes back
// at once. (The C library keeps 40 MB of it.)
enum { several = 600 };
static void address_space(void) {
  static pthread_t t[several];
  pthread_attr_t a;
  pthread_attr_init(&a);
  pthread_attr_setstacksize(&a, 8 << 20);
  pthread_barrier_init(&all_there, NULL, several + 1);
  pthread_barrier_init(&may_end, NULL, several + 1);
  long before = status_kb("VmSize:");
  for (int i = 0; i < several; i++) {
    int e = pthread_create(&t[i], &a, touches, NULL);
    if (e) printf("pthread_create: %s\n", strerrorname_np(e)), exit(97);
  }
  pthread_barrier_wait(&all_there);
  pthread_barrier_wait(&may_end);
  long peak = status_kb("VmSize:") - before;
  for (int i = 0; i < several; i++) pthread_join(t[i], NULL);
  long left = status_kb("VmSize:") - before;
  printf("of the address space of %d threads there is left: %s\n", several,
         left > peak / 2 ? "most" : "less than half");
  fflush(stdout);
}

int main(void) {
  limited();
  limited_afterwards();
  locked();
  sizes_and_guards();
  burst(0);
  burst(1);
  burst(0);
  address_space();
}
