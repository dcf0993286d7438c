// An invalid pointer gives EFAULT in a thread as natively: in every system call that is made by
// number, and in the functions that pass it to the kernel. (C library functions that access the
// memory themselves end the process; none of these is here.)
#include "threads.h"

#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define NUMBER(call, ...) SAY(#call, syscall(SYS_##call __VA_OPT__(, ) __VA_ARGS__))

static char data[4096];
static char* edge;  // the last accessible bytes before an inaccessible page

static void* waits(void* p) {
  char c;
  return read(*(int*)p, &c, 1) == 1 ? p : NULL;
}

static void scheduling(pid_t other) {
  long param = 0;
  for (int i = 0; i < 2; i++) {
    pid_t who = i ? other : 0;
    puts(i ? "another thread's" : "one's own");
    NUMBER(sched_setattr, who, NOWHERE, 0);
    NUMBER(sched_getattr, who, NOWHERE, 48, 0);
    NUMBER(sched_setscheduler, who, SCHED_OTHER, NOWHERE);
    NUMBER(sched_setparam, who, NOWHERE);
    NUMBER(sched_getparam, who, NOWHERE);
    NUMBER(sched_setaffinity, who, 8, NOWHERE);
    NUMBER(sched_getaffinity, who, 128, NOWHERE);
    NUMBER(sched_rr_get_interval, who, NOWHERE);
    SAY("sched_setscheduler", sched_setscheduler(who, SCHED_OTHER, NOWHERE));
    SAY("sched_setparam", sched_setparam(who, NOWHERE));
    SAY("sched_getparam", sched_getparam(who, NOWHERE));
    SAY("sched_setaffinity", sched_setaffinity(who, 8, NOWHERE));
    SAY("sched_getparam of none", sched_getparam(who, NULL));
    SAY("sched_setscheduler of none", sched_setscheduler(who, SCHED_OTHER, NULL));
  }
  memcpy(edge - 4, &param, 4);
  SAY("sched_setscheduler at an edge", sched_setscheduler(0, SCHED_OTHER, (void*)(edge - 4)));
  SAY("sched_getparam at an edge", sched_getparam(0, (void*)(edge - 4)));
  SAY("sched_getparam over an edge", sched_getparam(0, (void*)(edge - 2)));
}

static void signals(void) {
  sigset_t none, usr1;
  sigemptyset(&none);
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  struct timespec soon = {0, 1000};
  siginfo_t info;
  NUMBER(rt_sigprocmask, SIG_BLOCK, NOWHERE, NULL, 8);
  NUMBER(rt_sigprocmask, SIG_BLOCK, NULL, NOWHERE, 8);
  SAY("the mask changes all the same", sigprocmask(SIG_BLOCK, &usr1, NOWHERE));
  sigset_t now;
  sigprocmask(SIG_BLOCK, NULL, &now);
  SAY("  it has", sigismember(&now, SIGUSR1));
  NUMBER(rt_sigpending, NOWHERE, 8);
  NUMBER(rt_sigsuspend, NOWHERE, 8);
  NUMBER(rt_sigtimedwait, NOWHERE, NULL, &soon, 8);
  NUMBER(rt_sigtimedwait, &usr1, NULL, NOWHERE, 8);
  SAY("sigtimedwait", sigtimedwait(NOWHERE, NULL, &soon));
  SAY("sigtimedwait's time", sigtimedwait(&usr1, NULL, NOWHERE));
  pthread_kill(pthread_self(), SIGUSR1);
  SAY("sigtimedwait's result", sigtimedwait(&usr1, NOWHERE, &soon));
  SAY("  and the signal is taken", sigtimedwait(&usr1, &info, &soon));
  NUMBER(sigaltstack, NOWHERE, NULL);
  NUMBER(sigaltstack, NULL, NOWHERE);
  SAY("sigaltstack", sigaltstack(NULL, NOWHERE));
  NUMBER(rt_tgsigqueueinfo, getpid(), gettid(), SIGUSR1, NOWHERE);
  NUMBER(rt_sigaction, SIGUSR2, NOWHERE, NULL, 8);
}

static void times(void) {
  struct timespec soon = {0, 1000};
  struct timeval soon_too = {0, 1000};
  struct pollfd p = {-1, 0, 0};
  NUMBER(nanosleep, NOWHERE, NULL);
  SAY("nanosleep", nanosleep(NOWHERE, NULL));
  NUMBER(clock_nanosleep, CLOCK_MONOTONIC, 0, NOWHERE, NULL);
  ERR("clock_nanosleep", clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, NOWHERE, NULL));
  NUMBER(clock_gettime, CLOCK_MONOTONIC, NOWHERE);
  NUMBER(clock_gettime, CLOCK_REALTIME, NOWHERE);
  NUMBER(clock_gettime, CLOCK_THREAD_CPUTIME_ID, NOWHERE);
  NUMBER(clock_getres, CLOCK_MONOTONIC, NOWHERE);
  NUMBER(getrusage, RUSAGE_THREAD, NOWHERE);
#ifdef SYS_select
  NUMBER(select, 0, NULL, NULL, NULL, NOWHERE);
  NUMBER(select, 1, NOWHERE, NULL, NULL, &soon_too);
  NUMBER(poll, NOWHERE, 1, 1);
  SAY("select, passed", syscall(SYS_select, 0, NULL, NULL, NULL, &soon_too));
  SAY("  nothing is left", soon_too.tv_usec);
#endif
  NUMBER(pselect6, 0, NULL, NULL, NULL, NOWHERE, NULL);
  NUMBER(pselect6, 0, NULL, NULL, NULL, &soon, NOWHERE);
  NUMBER(ppoll, &p, 1, NOWHERE, NULL, 8);
  NUMBER(ppoll, NOWHERE, 1, &soon, NULL, 8);
  NUMBER(ppoll, &p, 1, &soon, NOWHERE, 8);
  SAY("ppoll, passed", syscall(SYS_ppoll, &p, 1, &soon, NULL, KERNEL_SET));
  SAY("  nothing is left", soon.tv_nsec);
  soon.tv_nsec = 1000;
  SAY("pselect6, passed", syscall(SYS_pselect6, 0, NULL, NULL, NULL, &soon, NULL));
  SAY("  nothing is left", soon.tv_nsec);
  int e = epoll_create1(0);
  NUMBER(epoll_pwait2, e, data, 1, NOWHERE, NULL, 8);
  NUMBER(epoll_pwait, e, data, 1, 1, NOWHERE, 8);
  SAY("epoll_pwait2", epoll_pwait2(e, (void*)data, 1, NOWHERE, NULL));
  close(e);
}

static void words(void) {
  uint32_t word = 0;
  NUMBER(futex, NOWHERE, FUTEX_WAIT_PRIVATE, 0, NULL);
  NUMBER(futex, &word, FUTEX_WAIT_PRIVATE, 0, NOWHERE);
  NUMBER(futex, &word, FUTEX_WAIT_BITSET_PRIVATE, 0, NOWHERE, NULL, 1);
  NUMBER(futex, NOWHERE, FUTEX_CMP_REQUEUE_PRIVATE, 1, 1, &word, 0);
  NUMBER(futex, NOWHERE, FUTEX_LOCK_PI_PRIVATE, 0, NULL);
  NUMBER(futex, NOWHERE, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL);
  NUMBER(futex, NOWHERE, FUTEX_WAKE_OP_PRIVATE, 1, 1, NOWHERE, 0);
  NUMBER(futex, NOWHERE, FUTEX_WAIT, 0, NULL);
}

static void descriptors(void) {
  int p[2], s[2], d[2];
  struct timespec soon = {0, 1000};
  socklen_t n = sizeof data;
  MUST(pipe(p));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  MUST(socketpair(AF_UNIX, SOCK_DGRAM, 0, d));
  for (int i = 0; i < 2; i++) {
    int in = i ? s[0] : p[0], out = i ? s[1] : p[1];
    puts(i ? "sockets" : "pipes");
    MUST(write(out, "hello", 5));
    SAY("read", read(in, NOWHERE, 5));
    SAY("readv", readv(in, NOWHERE, 2));
    struct iovec v[2] = {{data, 1}, {NOWHERE, 1}};
    SAY("readv, the second part", readv(in, v, 2));
    SAY("write", write(out, NOWHERE, 5));
    SAY("writev", writev(out, NOWHERE, 2));
    SAY("writev, the array at an edge", writev(out, (void*)(edge - 8), 1));
    NUMBER(read, in, NOWHERE, 5);
    NUMBER(writev, out, NOWHERE, 2);
    SAY("the rest", read(in, data, 100));
  }
  int e = eventfd(0, 0);
  SAY("eventfd", write(e, NOWHERE, 8));
  SAY("eventfd, the array", writev(e, NOWHERE, 1));
  SAY("eventfd, too little room", read(e, data, 4));
  MUST(write(s[1], "hello", 5));
  SAY("recv", recv(s[0], NOWHERE, 5, 0));
  SAY("recv all", recv(s[0], NOWHERE, 5, MSG_WAITALL));
  SAY("recvmsg", recvmsg(s[0], NOWHERE, 0));
  SAY("recvmsg all", recvmsg(s[0], NOWHERE, MSG_WAITALL));
  struct msghdr m = {.msg_iov = NOWHERE, .msg_iovlen = 1};
  SAY("recvmsg, the array", recvmsg(s[0], &m, 0));
  SAY("recvmsg all, the array", recvmsg(s[0], &m, MSG_WAITALL));
  SAY("sendmsg, the array", sendmsg(s[1], &m, 0));
  SAY("sendmsg", sendmsg(s[1], NOWHERE, 0));
  SAY("send", send(s[1], NOWHERE, 5, 0));
  SAY("sendto", sendto(d[1], data, 5, 0, NOWHERE, 16));
  SAY("sendmmsg", sendmmsg(d[1], NOWHERE, 1, 0));
  MUST(send(d[1], "hello", 5, 0));
  SAY("recvmmsg", recvmmsg(d[0], NOWHERE, 1, 0, NULL));
  SAY("recvmmsg, the time", recvmmsg(d[0], (void*)data, 1, 0, NOWHERE));
  SAY("recvfrom all, how long the address is",
      recvfrom(s[0], data, 5, MSG_WAITALL, (void*)data, NOWHERE));
  (void)n;
  SAY("connect", connect(s[0], NOWHERE, 16));
  SAY("poll", poll(NOWHERE, 1, 1));
  SAY("select", select(1, NOWHERE, NULL, NULL, NULL));
  SAY("fcntl", fcntl(p[0], F_SETLKW, NOWHERE));
  SAY("open", open(NOWHERE, O_RDONLY));
  SAY("a FIFO", open(NOWHERE, O_WRONLY));
  (void)soon;
}

static void queues(void) {
  int m = msgget(IPC_PRIVATE, 0600), s = semget(IPC_PRIVATE, 1, 0600);
  struct sembuf up = {0, 1, 0};
  NUMBER(msgsnd, m, NOWHERE, 10, 0);
  SAY("semop", semop(s, NOWHERE, 1));
  memcpy(edge - sizeof up, &up, sizeof up);
  SAY("semop at an edge", semop(s, (void*)(edge - sizeof up), 1));
  SAY("semop over an edge", semop(s, (void*)(edge - sizeof up), 2));
  SAY("semtimedop", semtimedop(s, &up, 1, NOWHERE));
  msgctl(m, IPC_RMID, NULL);
  semctl(s, 0, IPC_RMID);
  SAY("prctl's name", prctl(PR_SET_NAME, NOWHERE));
  SAY("prctl returns the name", prctl(PR_GET_NAME, NOWHERE));
  strcpy(edge - 3, "ab");
  SAY("prctl's name at an edge", prctl(PR_SET_NAME, edge - 3));
  memset(edge - 3, 'a', 3);
  SAY("prctl's name over an edge", prctl(PR_SET_NAME, edge - 3));
  NUMBER(wait4, -1, NOWHERE, WNOHANG, NULL);
  NUMBER(clone3, NOWHERE, 88);
}

static void* all(void* other) {
  scheduling(((struct worker*)other)->tid);
  signals();
  times();
  words();
  descriptors();
  queues();
  return NULL;
}

int main(void) {
  int p[2];
  struct worker w, other;
  char* pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  // (Protected rather than unmapped, since another mmap could be placed in the hole.)
  MUST(mprotect(pages + 4096, 4096, PROT_NONE));
  edge = pages + 4096;
  MUST(pipe(p));
  start(&other, waits, &p[0]);
  await_waiting(&other);
  start(&w, all, &other);
  end_of(&w);
  MUST(write(p[1], "a", 1));
  end_of(&other);
  return 0;
}
