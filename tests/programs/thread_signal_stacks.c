// Handlers that wait on alternate stacks (sigaltstack(2)): each thread has its own stack, which is
// in use meanwhile.
#include "threads.h"

#include <semaphore.h>
#include <setjmp.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>

#define THREADS 3
static struct place {
  struct worker w;
  char stack[64 << 10];
  volatile int handlers, whole, on_it, told_on_it, refused;
  sem_t go, done;  // for the handler, and for the thread
} places[THREADS];
static sem_t in_handler, started;
static __thread struct place* mine;
static __thread sigjmp_buf back;
static volatile int leave_by_jump;

static int is_on(const struct place* p, const void* here) {
  return (const char*)here >= p->stack && (const char*)here < p->stack + sizeof p->stack;
}
static void wait_for(sem_t* s) {
  while (sem_wait(s)) {}
}

// Fills its part of the stack, waits, and checks that it is unchanged.
static void waits_on_it(int signal) {
  struct place* p = mine;
  unsigned char frame[4096];
  fill(frame, sizeof frame, (size_t)signal);
  p->on_it += is_on(p, frame);
  __asm__ volatile("" : : "r"(frame) : "memory");
  sem_post(&in_handler);
  wait_for(&p->go);
  int whole = 1;
  for (size_t i = 0; i < sizeof frame; i++) whole &= frame[i] == pattern(i + (size_t)signal);
  p->whole += whole;
  stack_t s;
  sigaltstack(NULL, &s);
  p->told_on_it += s.ss_sp == p->stack && (s.ss_flags & SS_ONSTACK);
  s.ss_flags = 0;
  p->refused += sigaltstack(&s, NULL) == -1 && errno == EPERM;
  p->handlers++;
  if (leave_by_jump) siglongjmp(back, 1);
}
static volatile int elsewhere;
static void only_looks(int signal) {
  char here = 0;
  (void)signal;
  elsewhere += !mine ? 1 : is_on(mine, &here) ? 100 : 10000;
}
static void install(int signal, void (*handler)(int)) {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_handler = handler;
  a.sa_flags = SA_ONSTACK;
  MUST(sigaction(signal, &a, NULL));
}

static void cleanup(void* ran) { ++*(int*)ran; }
static int cleaned;
static void* has_stack(void* p) {
  mine = p;
  stack_t s = {.ss_sp = mine->stack, .ss_size = sizeof mine->stack};
  MUST(sigaltstack(&s, NULL));
  int jumped = sigsetjmp(back, 1);
  pthread_cleanup_push(cleanup, &cleaned);
  if (!jumped) sem_post(&started);
  wait_for(&mine->done);
  pthread_cleanup_pop(0);
  s.ss_flags = SS_DISABLE;
  sigaltstack(&s, NULL);
  return (void*)(intptr_t)jumped;
}
static void begin(int n) {
  for (int i = 0; i < n; i++) {
    struct place* p = &places[i];
    p->handlers = p->whole = p->on_it = p->told_on_it = p->refused = 0;
    sem_init(&p->go, 0, 0), sem_init(&p->done, 0, 0);
    start(&p->w, has_stack, p);
    wait_for(&started);
  }
}
static void tell(const struct place* p) {
  printf("handlers %d, on the stack %d, unchanged %d, reported so %d, no other can be set %d\n",
         p->handlers, p->on_it, p->whole, p->told_on_it, p->refused);
}

static void several(void) {
  printf("-- several at once\n");
  install(SIGUSR1, waits_on_it);
  install(SIGUSR2, only_looks);
  begin(THREADS);
  for (int i = 0; i < THREADS; i++) {
    pthread_kill(places[i].w.id, SIGUSR1);
    wait_for(&in_handler);
  }
  for (int i = 0; i < 3; i++) raise(SIGUSR2);
  SAY("main, which has none, handles on its own", elsewhere);
  for (int i = 0; i < THREADS; i++) sem_post(&places[THREADS - 1 - i].go);
  while (places[0].handlers + places[1].handlers + places[2].handlers < THREADS) sched_yield();
  for (int i = 0; i < THREADS; i++) tell(&places[i]);
  for (int i = 0; i < THREADS; i++) sem_post(&places[i].done), end_of(&places[i].w);
}

static void nested(void) {
  printf("-- one in the other\n");
  install(SIGHUP, waits_on_it);
  begin(1);
  pthread_kill(places[0].w.id, SIGUSR1);
  wait_for(&in_handler);
  pthread_kill(places[0].w.id, SIGHUP);
  wait_for(&in_handler);
  for (int i = 0; i < 2; i++) sem_post(&places[0].go);
  while (places[0].handlers < 2) sched_yield();
  tell(&places[0]);
  sem_post(&places[0].done);
  end_of(&places[0].w);
}

static void left(void) {
  printf("-- left by siglongjmp\n");
  begin(1);
  leave_by_jump = 1;
  for (int i = 0; i < 2; i++) {
    pthread_kill(places[0].w.id, SIGUSR1);
    wait_for(&in_handler);
    sem_post(&places[0].go);
    while (places[0].handlers <= i) sched_yield();
  }
  leave_by_jump = 0;
  tell(&places[0]);
  sem_post(&places[0].done);
  SAY("it goes on", (intptr_t)end_of(&places[0].w));
  printf("-- left by pthread_cancel\n");
  begin(1);
  pthread_kill(places[0].w.id, SIGUSR1);
  wait_for(&in_handler);
  pthread_cancel(places[0].w.id);
  SAY("it ends", end_of(&places[0].w) == PTHREAD_CANCELED);
  SAY("  and cleans up", cleaned);
}

static void of_main(void) {
  printf("-- main's\n");
  static struct place own;
  mine = &own;
  sem_init(&own.go, 0, 0);
  stack_t s = {.ss_sp = own.stack, .ss_size = sizeof own.stack};
  MUST(sigaltstack(&s, NULL));
  begin(1);
  pthread_kill(places[0].w.id, SIGUSR1);
  wait_for(&in_handler);
  sem_post(&own.go);
  raise(SIGUSR1);
  elsewhere = 0;
  kill(getpid(), SIGUSR2);
  SAY("one for the process", elsewhere);
  tell(&own);
  sem_post(&places[0].go), sem_post(&places[0].done);
  end_of(&places[0].w);
  tell(&places[0]);
}

// --- busy on them ---

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif
static volatile long steps[2];
// Each goes on when the other has come as far, so both have to be preempted where they are.
static void take_turns(int which) {
  for (long step = 1; step <= 5; step++) {
    steps[which] = step;
    while (steps[!which] < step) {}
  }
}
struct seen {
  int on_it, flags_inside, same_place, context_tells, refused;
};
static struct small {
  struct worker w;
  char* stack;
  size_t size;
  unsigned flags;
  struct seen seen;
  stack_t inside, after;
} small[2];
static __thread struct small* own;
static void busy_on_it(int signal, siginfo_t* info, void* context) {
  struct small* s = own;
  const ucontext_t* c = context;
  char here = (char)signal;
  s->seen.on_it = &here >= s->stack && &here < s->stack + s->size && (char*)info >= s->stack &&
                  (char*)info < s->stack + s->size && (char*)context >= s->stack &&
                  (char*)context < s->stack + s->size;
  s->seen.context_tells = c->uc_stack.ss_sp == s->stack && c->uc_stack.ss_size == s->size &&
                          (unsigned)c->uc_stack.ss_flags == s->flags;
  sigaltstack(NULL, &s->inside);
  take_turns((int)(s - small));
  stack_t other = {.ss_sp = s->stack, .ss_size = s->size};
  s->seen.refused = sigaltstack(&other, NULL) == -1 ? errno : 0;
}
static void* busy(void* p) {
  own = p;
  struct small* s = p;
  stack_t t = {.ss_sp = s->stack, .ss_size = s->size, .ss_flags = (int)s->flags};
  MUST(sigaltstack(&t, NULL));
  pthread_kill(pthread_self(), SIGUSR1);
  sigaltstack(NULL, &s->after);
  t.ss_flags = SS_DISABLE;
  sigaltstack(&t, NULL);
  return NULL;
}
static void tell_stack(const char* when, const stack_t* t, const struct small* s) {
  printf("  %s: %s, flags %x\n", when,
         t->ss_sp == s->stack ? "its own"
         : t->ss_sp           ? "another"
                              : "none",
         (unsigned)t->ss_flags);
}
static void busy_ones(void) {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_sigaction = busy_on_it;
  a.sa_flags = SA_ONSTACK | SA_SIGINFO;
  MUST(sigaction(SIGUSR1, &a, NULL));
  for (int autodisarm = 0; autodisarm < 2; autodisarm++) {
    printf("-- busy on small ones%s\n", autodisarm ? ", with SS_AUTODISARM" : "");
    for (int i = 0; i < 2; i++) {
      struct small* s = &small[i];
      memset(s, 0, sizeof *s);
      // Room for one signal frame and little more, not for a second.
      s->size = getauxval(AT_MINSIGSTKSZ) + 2048;
      if (s->size < 4096) s->size = 4096;
      s->flags = autodisarm ? SS_AUTODISARM : 0;
      char* p =
          mmap(NULL, s->size + 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      MUST(mprotect(p, 4096, PROT_NONE));
      s->stack = p + 4096;
      steps[i] = 0;
    }
    for (int i = 0; i < 2; i++) start(&small[i].w, busy, &small[i]);
    for (int i = 0; i < 2; i++) end_of(&small[i].w);
    for (int i = 0; i < 2; i++) {
      const struct small* s = &small[i];
      printf("on it %d, its context tells %d, another in the handler: %s\n", s->seen.on_it,
             s->seen.context_tells, s->seen.refused ? strerrorname_np(s->seen.refused) : "0");
      tell_stack("in the handler", &s->inside, s);
      tell_stack("after it", &s->after, s);
    }
  }
}

// What sigaltstack() refuses, and what it reports.
static void* asks(void* p) {
  char room[16384];
  stack_t none, t = {.ss_sp = room, .ss_size = sizeof room}, was;
  SAY("a new thread has none", sigaltstack(NULL, &none) == 0 && none.ss_sp == NULL &&
                                   none.ss_size == 0 && none.ss_flags == SS_DISABLE);
  t.ss_size = 100;
  SAY("too small", sigaltstack(&t, NULL));
  t.ss_size = sizeof room, t.ss_flags = 12345;
  SAY("unknown flags", sigaltstack(&t, NULL));
  t.ss_flags = SS_ONSTACK;
  SAY("set with SS_ONSTACK", sigaltstack(&t, &was));
  SAY("  the stack before", was.ss_flags);
  SAY("  is reported", sigaltstack(NULL, &was) == 0 && was.ss_sp == room &&
                           was.ss_size == sizeof room && was.ss_flags == 0);
  SAY("a bad pointer", sigaltstack(NOWHERE, NULL));
  SAY("a bad pointer for the answer", sigaltstack(NULL, NOWHERE));
  t.ss_flags = SS_DISABLE;
  SAY("taken away", sigaltstack(&t, &was));
  SAY("  the stack before", was.ss_sp == room);
  SAY("  then", sigaltstack(NULL, &was) == 0 && was.ss_sp == NULL && was.ss_flags == SS_DISABLE);
  return p;
}
static void asking(void) {
  printf("-- asking\n");
  struct worker w;
  start(&w, asks, NULL);
  end_of(&w);
  stack_t main_stack;
  sigaltstack(NULL, &main_stack);
  SAY("main has its own", main_stack.ss_size);
}

// The handlers of threads that were preempted while they computed run directly below the
// interrupted code, as garbage collectors rely on.
static volatile int no_more, answered, beside;
static __thread char *stack_begins, *stack_ends;
static __thread const char* volatile busy_frame;
static void looks_where(int signal, siginfo_t* info, void* context) {
  (void)context;
  const char* here = (const char*)info;
  if (here < stack_begins || here >= stack_ends || here >= busy_frame) beside++;
  answered += signal == SIGUSR2;
}
static void* computes(void* p) {
  pthread_attr_t a;
  void* at;
  size_t size;
  volatile char frame = 0;
  pthread_getattr_np(pthread_self(), &a);
  pthread_attr_getstack(&a, &at, &size);
  pthread_attr_destroy(&a);
  stack_begins = at;
  stack_ends = stack_begins + size;
  busy_frame = (const char*)&frame;
  sem_post(&started);
  while (!no_more) frame++;
  return p;
}
static void where_they_run(void) {
  printf("-- where handlers run\n");
  struct worker w[3];
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_sigaction = looks_where;
  for (int flags = 0; flags < 2; flags++) {
    a.sa_flags = SA_SIGINFO | SA_RESTART | (flags ? SA_ONSTACK : 0);
    MUST(sigaction(SIGUSR2, &a, NULL));
    no_more = answered = beside = 0;
    for (int i = 0; i < 3; i++) start(&w[i], computes, NULL), wait_for(&started);
    for (int i = 1; i <= 60; i++) {
      pthread_kill(w[i % 3].id, SIGUSR2);
      while (answered < i) {}
    }
    no_more = 1;
    for (int i = 0; i < 3; i++) end_of(&w[i]);
    printf("handlers %d, elsewhere %d\n", answered, beside);
  }
}

int main(void) {
  sem_init(&in_handler, 0, 0), sem_init(&started, 0, 0);
  several();
  nested();
  left();
  of_main();
  asking();
  busy_ones();
  where_they_run();
  return 0;
}
