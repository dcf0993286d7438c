// futex(2) and other calls by syscall(2), and gettid(2), in threads.
#include "threads.h"

#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static uint32_t word, other;
static int private = FUTEX_PRIVATE_FLAG;
static volatile int woken;

static long futex(uint32_t* w, int op, uint32_t v, void* t, uint32_t* w2, uint32_t v3) {
  return syscall(SYS_futex, w, op | private, v, t, w2, v3);
}

struct wait {
  struct worker w;
  uint32_t* word;
  uint32_t bits;
  long result;
};
static void* waits(void* p) {
  struct wait* me = p;
  long r = me->bits ? futex(me->word, FUTEX_WAIT_BITSET, 0, NULL, NULL, me->bits)
                    : futex(me->word, FUTEX_WAIT, 0, NULL, NULL, 0);
  me->result = r < 0 ? errno : 0;
  __atomic_fetch_add(&woken, 1, __ATOMIC_SEQ_CST);
  return NULL;
}
static void waiters(struct wait* w, int n, uint32_t* at, uint32_t bits) {
  woken = 0;
  for (int i = 0; i < n; i++) {
    w[i].word = at;
    w[i].bits = bits;
    start(&w[i].w, waits, &w[i]);
  }
  for (int i = 0; i < n; i++) await_waiting(&w[i].w);
}
static void ends(struct wait* w, int n) {
  for (int i = 0; i < n; i++) {
    end_of(&w[i].w);
    if (w[i].result) printf("  a waiter got %s\n", strerrorname_np((int)w[i].result));
  }
}
static void await_woken(int n) {
  while (woken < n) sched_yield();
}

static void errors(void) {
  struct timespec bad = {0, 1000000000}, negative = {-1, 0}, zero = {0, 0}, few = {0, 2000000},
                  soon;
  word = 5;
  SAY("WAIT for another value", futex(&word, FUTEX_WAIT, 4, NULL, NULL, 0));
  SAY("WAIT, no time", futex(&word, FUTEX_WAIT, 5, &zero, NULL, 0));
  SAY("WAIT, some time", futex(&word, FUTEX_WAIT, 5, &few, NULL, 0));
  SAY("WAIT, some time, realtime",
      futex(&word, FUTEX_WAIT | FUTEX_CLOCK_REALTIME, 5, &few, NULL, 0));
  SAY("WAIT, too many nanoseconds", futex(&word, FUTEX_WAIT, 5, &bad, NULL, 0));
  SAY("WAIT, before zero", futex(&word, FUTEX_WAIT, 5, &negative, NULL, 0));
  SAY("WAIT, a time nowhere", futex(&word, FUTEX_WAIT, 5, NOWHERE, NULL, 0));
  SAY("WAIT nowhere", futex(NOWHERE, FUTEX_WAIT, 5, NULL, NULL, 0));
  SAY("WAIT between words", futex((uint32_t*)((char*)&word + 1), FUTEX_WAIT, 5, NULL, NULL, 0));
  SAY("WAKE between words", futex((uint32_t*)((char*)&word + 1), FUTEX_WAKE, 5, NULL, NULL, 0));
  SAY("WAKE without waiters", futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0));
  SAY("WAIT_BITSET, no bits", futex(&word, FUTEX_WAIT_BITSET, 5, NULL, NULL, 0));
  SAY("WAKE_BITSET, no bits", futex(&word, FUTEX_WAKE_BITSET, 5, NULL, NULL, 0));
  SAY("WAIT_BITSET, the past", futex(&word, FUTEX_WAIT_BITSET, 5, &zero, NULL, 1));
  SAY("WAIT_BITSET, the past, realtime",
      futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 5, &zero, NULL, 1));
  soon = in_ms(CLOCK_MONOTONIC, 3);
  SAY("WAIT_BITSET, soon", futex(&word, FUTEX_WAIT_BITSET, 5, &soon, NULL, 1));
  soon = in_ms(CLOCK_REALTIME, 3);
  SAY("WAIT_BITSET, soon, realtime",
      futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 5, &soon, NULL, 1));
  SAY("WAKE, realtime", futex(&word, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, 0));
  SAY("REQUEUE without waiters", futex(&word, FUTEX_REQUEUE, 1, (void*)1, &other, 0));
  SAY("REQUEUE of fewer than none", futex(&word, FUTEX_REQUEUE, -1, (void*)1, &other, 0));
  SAY("CMP_REQUEUE of another value", futex(&word, FUTEX_CMP_REQUEUE, 1, (void*)1, &other, 4));
  SAY("CMP_REQUEUE without waiters", futex(&word, FUTEX_CMP_REQUEUE, 1, (void*)1, &other, 5));
  SAY("WAKE_OP nowhere", futex(&word, FUTEX_WAKE_OP, 1, (void*)1, NOWHERE, 0));
  SAY("an unknown operation", futex(&word, 77, 1, NULL, NULL, 0));
}

static void wakes(void) {
  struct wait w[5];
  word = other = 0;
  waiters(w, 5, &word, 0);
  SAY("WAKE 0 is WAKE 1", futex(&word, FUTEX_WAKE, 0, NULL, NULL, 0));
  await_woken(1);
  SAY("WAKE 2 of 4", futex(&word, FUTEX_WAKE, 2, NULL, NULL, 0));
  await_woken(3);
  SAY("WAKE all", futex(&word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0));
  ends(w, 5);
  waiters(w, 2, &word, 1);
  waiters(w + 2, 2, &word, 6);
  SAY("WAKE_BITSET 8", futex(&word, FUTEX_WAKE_BITSET, INT32_MAX, NULL, NULL, 8));
  SAY("WAKE_BITSET 2", futex(&word, FUTEX_WAKE_BITSET, INT32_MAX, NULL, NULL, 2));
  SAY("WAKE", futex(&word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0));
  ends(w, 4);
  waiters(w, 5, &word, 0);
  SAY("REQUEUE: 1 woken, 2 moved", futex(&word, FUTEX_REQUEUE, 1, (void*)2, &other, 0));
  await_woken(1);
  SAY("WAKE where they were", futex(&word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0));
  await_woken(3);
  SAY("WAKE where they went", futex(&other, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0));
  ends(w, 5);
  waiters(w, 3, &word, 0);
  SAY("CMP_REQUEUE: none woken, all moved",
      futex(&word, FUTEX_CMP_REQUEUE, 0, (void*)INT32_MAX, &other, 0));
  SAY("WAKE where they were", futex(&word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0));
  SAY("WAKE where they went", futex(&other, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0));
  ends(w, 3);
}

static void wake_op(const char* name, int op, int argument, int cmp, int than, uint32_t from) {
  struct wait w[2];
  word = other = 0;
  waiters(w, 1, &word, 0);
  waiters(w + 1, 1, &other, 0);
  other = from;
  printf("%s", name);
  SAY("", futex(&word, FUTEX_WAKE_OP, 1, (void*)1, &other, FUTEX_OP(op, argument, cmp, than)));
  SAY("  the word becomes", other);
  futex(&word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
  futex(&other, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
  ends(w, 2);
}

static void wake_ops(void) {
  wake_op("set, ==", FUTEX_OP_SET, 7, FUTEX_OP_CMP_EQ, 3, 3);
  wake_op("add, !=", FUTEX_OP_ADD, -1, FUTEX_OP_CMP_NE, 3, 3);
  wake_op("or, <", FUTEX_OP_OR, 6, FUTEX_OP_CMP_LT, 4, 3);
  wake_op("andn, <=", FUTEX_OP_ANDN, 6, FUTEX_OP_CMP_LE, 3, 7);
  wake_op("xor, >", FUTEX_OP_XOR, 6, FUTEX_OP_CMP_GT, -1, 7);
  wake_op("or a bit, >=", FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT, 9, FUTEX_OP_CMP_GE, -2, (uint32_t)-2);
}

// Priority-inheriting futexes, whose word holds the owner's id.
static volatile int go;
static void* holds_pi(void* unused) {
  (void)unused;
  SAY("  LOCK_PI elsewhere", futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
  go = 1;
  while (go == 1) sched_yield();
  return (void*)futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
}
static void* unlocks_later(void* unused) {
  go = 2;
  return unused;
}
static void inheriting(void) {
  struct worker w, later;
  struct timespec soon = in_ms(CLOCK_REALTIME, 5);
  word = 0;
  go = 0;
  SAY("LOCK_PI", futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
  SAY("  the word is the thread's number", word == (uint32_t)gettid());
  SAY("LOCK_PI again", futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0));
  SAY("UNLOCK_PI", futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
  SAY("UNLOCK_PI again", futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
  start(&w, holds_pi, NULL);
  while (!go) sched_yield();
  SAY("TRYLOCK_PI of another's", futex(&word, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0));
  SAY("LOCK_PI, soon", futex(&word, FUTEX_LOCK_PI, 0, &soon, NULL, 0));
  SAY("UNLOCK_PI of another's", futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0));
  start(&later, unlocks_later, NULL);
  SAY("LOCK_PI", futex(&word, FUTEX_LOCK_PI, 0, NULL, NULL, 0) != 0);
  end_of(&later);
  SAY("  UNLOCK_PI elsewhere", (intptr_t)end_of(&w));
  futex(&word, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
}

// The calls of newer kernels, by their numbers (ENOSYS natively, too, where there are none).
enum { futex_waitv = 449, futex_wake = 454, futex_wait = 455, of_32_bits = 2 };
struct one_of {
  uint64_t value, address;
  uint32_t flags, reserved;
};
static uint32_t three[3];
static void list_three(struct one_of* v) {
  for (int i = 0; i < 3; i++)
    v[i] = (struct one_of){0, (uintptr_t)&three[i], of_32_bits | (uint32_t) private, 0};
}
static void* waits_for_three(void* unused) {
  struct one_of v[3];
  (void)unused;
  list_three(v);
  return (void*)syscall(futex_waitv, v, 3, 0, NULL, CLOCK_MONOTONIC);
}
static void* waits_newly(void* bits) {
  return (void*)syscall(futex_wait, &word, 0, (unsigned long)(uintptr_t)bits, of_32_bits | private,
                        NULL, CLOCK_MONOTONIC);
}
static void newer(void) {
  struct one_of v[3];
  struct worker w;
  struct wait old;
  list_three(v);
  memset(three, 0, sizeof three);
  struct timespec soon = in_ms(CLOCK_MONOTONIC, 3);
  SAY("waitv, soon", syscall(futex_waitv, v, 3, 0, &soon, CLOCK_MONOTONIC));
  soon = in_ms(CLOCK_REALTIME, 3);
  SAY("waitv, soon, realtime", syscall(futex_waitv, v, 3, 0, &soon, CLOCK_REALTIME));
  v[1].value = 1;
  SAY("waitv, another value", syscall(futex_waitv, v, 3, 0, NULL, CLOCK_MONOTONIC));
  SAY("waitv nowhere", syscall(futex_waitv, NOWHERE, 3, 0, NULL, CLOCK_MONOTONIC));
  SAY("waitv of none", syscall(futex_waitv, v, 0, 0, NULL, CLOCK_MONOTONIC));
  if (syscall(futex_waitv, v, 3, 1, NULL, CLOCK_MONOTONIC) == -1 && errno == ENOSYS) return;
  start(&w, waits_for_three, NULL);
  await_waiting(&w);
  SAY("WAKE of the third", futex(&three[2], FUTEX_WAKE, 1, NULL, NULL, 0));
  SAY("  one of three words is woken", (intptr_t)end_of(&w));
  word = 0;
  soon = in_ms(CLOCK_MONOTONIC, 3);
  SAY("wait, soon",
      syscall(futex_wait, &word, 0, 1UL, of_32_bits | private, &soon, CLOCK_MONOTONIC));
  soon = in_ms(CLOCK_REALTIME, 3);
  SAY("wait, soon, realtime",
      syscall(futex_wait, &word, 0, 1UL, of_32_bits | private, &soon, CLOCK_REALTIME));
  SAY("wait, another value",
      syscall(futex_wait, &word, 1, 1UL, of_32_bits | private, NULL, CLOCK_MONOTONIC));
  SAY("wait, no bits", syscall(futex_wait, &word, 0, 0UL, of_32_bits | private, NULL, 1));
  SAY("wait, a clock", syscall(futex_wait, &word, 0, 1UL, of_32_bits | private, &soon, 5));
  SAY("wait nowhere", syscall(futex_wait, NOWHERE, 0, 1UL, of_32_bits | private, NULL, 1));
  SAY("wait, flags", syscall(futex_wait, &word, 0, 1UL, 64 | private, NULL, 1));
  SAY("wake, no bits", syscall(futex_wake, &word, 0UL, 1, of_32_bits | private));
  SAY("wake, flags", syscall(futex_wake, &word, 1UL, 1, 64 | private));
  SAY("wake of nobody", syscall(futex_wake, &word, 1UL, 1, of_32_bits | private));
  start(&w, waits_newly, (void*)6);
  await_waiting(&w);
  SAY("wake by other bits", syscall(futex_wake, &word, 1UL, 9, of_32_bits | private));
  SAY("wake none", syscall(futex_wake, &word, 2UL, 0, of_32_bits | private));
  SAY("wake by a bit", syscall(futex_wake, &word, 2UL, 9, of_32_bits | private));
  SAY("  futex_wait", (intptr_t)end_of(&w));
  start(&w, waits_newly, (void*)1);
  await_waiting(&w);
  SAY("WAKE", futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0));
  SAY("  futex_wait", (intptr_t)end_of(&w));
  waiters(&old, 1, &word, 0);
  SAY("wake of a waiter by futex(2)", syscall(futex_wake, &word, 4UL, 1, of_32_bits | private));
  ends(&old, 1);
}

static void* by_number(void* p) {
  int* fd = p;
  char c = 0;
  SAY("read by number", syscall(SYS_read, fd[0], &c, 1));
  struct pollfd f = {.fd = fd[0], .events = POLLIN};
  struct timespec t = {0, 3000000};
  SAY("ppoll by number", syscall(SYS_ppoll, &f, 1, &t, NULL, KERNEL_SET));
  SAY("nanosleep by number", syscall(SYS_nanosleep, &t, NULL));
  SAY("clock_nanosleep by number", syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &t, NULL));
  SAY("  of an odd clock", syscall(SYS_clock_nanosleep, 99, 0, &t, NULL));
  int ep = (int)MUST(epoll_create1(0));
  struct epoll_event e = {.events = EPOLLIN};
  epoll_ctl(ep, EPOLL_CTL_ADD, fd[0], &e);
  SAY("epoll_pwait by number", syscall(SYS_epoll_pwait, ep, &e, 1, 3, NULL, KERNEL_SET));
  SAY("close by number", syscall(SYS_close, ep));
  SAY("close again", syscall(SYS_close, ep));
  SAY("sched_yield by number", syscall(SYS_sched_yield));
  SAY("a number that there is not", syscall(99999));
  return NULL;
}
static void* cancelled_by_number(void* p) {
  char c;
  syscall(SYS_read, *(int*)p, &c, 1);
  printf("read by number is no cancellation point\n");
  pthread_testcancel();
  printf("but this is\n");
  return NULL;
}

static void* tells_tid(void* unused) {
  (void)unused;
  return (void*)(intptr_t)(gettid() == syscall(SYS_gettid) ? gettid() : -1);
}

static void numbers(void) {
  struct worker a, b;
  int fd[2];
  MUST(pipe(fd));
  start(&a, by_number, fd);
  await_waiting(&a);
  write(fd[1], "x", 1);
  end_of(&a);
  start(&a, cancelled_by_number, fd);
  await_waiting(&a);
  pthread_cancel(a.id);
  await_waiting(&a);
  write(fd[1], "x", 1);
  SAY("cancelled", end_of(&a) == PTHREAD_CANCELED);
  start(&a, tells_tid, NULL);
  start(&b, tells_tid, NULL);
  intptr_t ta = (intptr_t)end_of(&a), tb = (intptr_t)end_of(&b);
  SAY("gettid differs", ta > 0 && tb > 0 && ta != tb && ta != gettid() && a.tid == ta);
  SAY("and is the process's in the main thread", gettid() == getpid());
}

int main(void) {
  errors();
  wakes();
  wake_ops();
  inheriting();
  newer();
  numbers();
  printf("shared\n");
  private = 0;
  word = other = 0;
  errors();
  wakes();
  newer();
  return 0;
}
