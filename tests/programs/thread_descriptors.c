// The table of descriptors belongs to the program: waits need no place in it, whichever descriptors
// the program closes, replaces or leaves no room for.
#include "threads.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

// The program's own descriptors are below this number; those that it closes and replaces begin
// here.
enum { own_end = 40, most = 2100 };

// A system call that no library sees. Its number is a constant in the code: with a stub for system
// calls by any number, the threads of this program would stay kernel threads.
#if defined __x86_64__
#define UNSEEN(number)                                           \
  static long unseen_##number(long a, long b, long c) {          \
    long r;                                                      \
    __asm__ volatile("mov %1, %%eax\n syscall"                   \
                     : "=&a"(r)                                  \
                     : "i"(SYS_##number), "D"(a), "S"(b), "d"(c) \
                     : "rcx", "r11", "memory");                  \
    return r;                                                    \
  }
#elif defined __aarch64__
#define UNSEEN(number)                                                              \
  static long unseen_##number(long a, long b, long c) {                             \
    register long x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c; \
    __asm__ volatile("mov x8, %1\n svc 0"                                           \
                     : "+r"(x0)                                                     \
                     : "i"(SYS_##number), "r"(x1), "r"(x2)                          \
                     : "x8", "memory");                                             \
    return x0;                                                                      \
  }
#else
#define UNSEEN(number) \
  static long unseen_##number(long a, long b, long c) { return syscall(SYS_##number, a, b, c); }
#endif
UNSEEN(close)
UNSEEN(close_range)
UNSEEN(dup3)

// --- the waits: each is a call that blocks in a thread, and what ends it ---

static int stream[2], datagrams[2], child_goes[2];
static struct sockaddr_un receiver;
static socklen_t receiver_size = sizeof receiver;
static pid_t child;
static sigset_t usr1;

static void prepare(void) {
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, stream));
  datagrams[0] = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
  datagrams[1] = MUST(socket(AF_UNIX, SOCK_DGRAM, 0));
  receiver.sun_family = AF_UNIX;
  // a unique name
  MUST(bind(datagrams[1], (struct sockaddr*)&receiver, sizeof(sa_family_t)));
  MUST(getsockname(datagrams[1], (struct sockaddr*)&receiver, &receiver_size));
  // The queue is filled before there is a sender: if the sender filled it, the one datagram that is
  // taken out could be an early one, and the sender would wait for ever.
  while (sendto(datagrams[0], "x", 1, MSG_DONTWAIT, (struct sockaddr*)&receiver, receiver_size) ==
         1)
    continue;
  MUST(pipe(child_goes));
  child = MUST(fork());
  if (child == 0) {
    char c;
    close(child_goes[1]);
    while (read(child_goes[0], &c, 1) < 0) continue;
    _exit(7);
  }
  MUST(close(child_goes[0]));
  sigemptyset(&usr1);
  sigaddset(&usr1, SIGUSR1);
  MUST(sigprocmask(SIG_BLOCK, &usr1, NULL));
}

static void* reads(void* unused) {
  char c;
  (void)unused;
  SAY("  read", read(stream[1], &c, 1));
  return NULL;
}
static void ends_read(void) { MUST(write(stream[0], "x", 1)); }

static void* awaits_signal(void* unused) {
  int got = 0;
  (void)unused;
  ERR("  sigwait", sigwait(&usr1, &got));
  if (got != SIGUSR1) printf("  signal %d\n", got);
  return NULL;
}
static void sends_signal(void) { MUST(kill(getpid(), SIGUSR1)); }

static void* awaits_signal_for_an_hour(void* unused) {
  struct timespec hour = {3600, 0};
  siginfo_t info;
  (void)unused;
  errno = 0;
  int got = sigtimedwait(&usr1, &info, &hour);
  printf("  sigtimedwait: %d %s code %d\n", got == SIGUSR1, strerrorname_np(errno), info.si_code);
  return NULL;
}

// Nobody knows when it ends: what it has to say is said at the end.
static int slept = -1;
static void* sleeps_until(void* unused) {
  (void)unused;
  struct timespec until = in_ms(CLOCK_REALTIME, 30), now;
  slept = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, NULL);
  clock_gettime(CLOCK_REALTIME, &now);
  if (now.tv_sec < until.tv_sec || (now.tv_sec == until.tv_sec && now.tv_nsec < until.tv_nsec))
    printf("  too early\n");
  return NULL;
}
static void ends_by_itself(void) {}

static void* awaits_child(void* unused) {
  int status = 0;
  (void)unused;
  SAY("  waitpid", waitpid(child, &status, 0) == child);
  printf("  status %d\n", WEXITSTATUS(status));
  return NULL;
}
static void ends_child(void) { MUST(write(child_goes[1], "x", 1)); }

static void* sends_datagram(void* unused) {
  (void)unused;
  SAY("  sendto", sendto(datagrams[0], "y", 1, 0, (struct sockaddr*)&receiver, receiver_size));
  return NULL;
}
static void receives_datagram(void) {
  char c;
  MUST(recv(datagrams[1], &c, 1, 0));
}

static struct wait {
  const char* name;
  void* (*run)(void*);
  void (*end)(void);
} waits[] = {
    {"read", reads, ends_read},
    {"sigwait", awaits_signal, sends_signal},
    {"sigtimedwait", awaits_signal_for_an_hour, sends_signal},
    {"clock_nanosleep", sleeps_until, ends_by_itself},
    {"waitpid", awaits_child, ends_child},
    {"sendto", sends_datagram, receives_datagram},
};
enum { wait_count = sizeof waits / sizeof *waits };

// --- what the program does to the table ---

static int spare[2];  // a pipe that no thread writes to

static int lowest_free(void) {
  int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (fd >= 0) close(fd);
  return fd;
}
static void closes_each(void) {
  int closed = 0, others = 0;
  for (int fd = own_end; fd < most; fd++) {
    if (close(fd) == 0) closed++;
    else others += errno != EBADF;
  }
  printf("  numbers closed: %d, errors but EBADF: %d\n", closed, others);
}
static void closes_each_unseen(void) {
  for (int fd = own_end; fd < most; fd++) unseen_close(fd, 0, 0);
}
static void closes_range(void) { MUST(close_range(own_end, ~0U, 0)); }
static void closes_range_unseen(void) { unseen_close_range(own_end, ~0U, 0); }
static void closes_from(void) { closefrom(own_end); }
// The runtime may have two descriptors; each is lost in turn.
static void closes_even_unseen(void) {
  for (int fd = own_end; fd < most; fd += 2) unseen_close(fd, 0, 0);
}
static void closes_odd_unseen(void) {
  for (int fd = own_end + 1; fd < most; fd += 2) unseen_close(fd, 0, 0);
}
static void replaces_each(void) {
  for (int fd = own_end; fd < most; fd++) dup2(spare[1], fd);
}
static void replaces_each_unseen(void) {
  for (int fd = own_end; fd < most; fd++) unseen_dup3(spare[1], fd, 0);
}
static void replaces_by_epoll_unseen(void) {
  int e = MUST(epoll_create1(0));
  for (int fd = own_end; fd < most; fd++) unseen_dup3(e, fd, 0);
}
static void fills(void) {
  while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0) continue;
}
static void forbids(void) {
  struct rlimit none;
  MUST(getrlimit(RLIMIT_NOFILE, &none));
  none.rlim_cur = 0;
  MUST(setrlimit(RLIMIT_NOFILE, &none));
}
static void forbids_for_ever(void) {
  struct rlimit none = {0, 0};
  MUST(setrlimit(RLIMIT_NOFILE, &none));
}
static void closes_all_and_forbids(void) {
  closes_range_unseen();
  forbids_for_ever();
}

// Refuses up to four system calls that the program does not make.
static void refuse(int a, int b, int c, int d) {
#define REFUSED(n) \
  BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, n, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
  struct sock_filter f[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                            REFUSED(a),
                            REFUSED(b),
                            REFUSED(c),
                            REFUSED(d),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  struct sock_fprog program = {sizeof f / sizeof *f, f};
  MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}
static void refuses_sources(void) {
  refuse(SYS_socketpair, SYS_signalfd4, SYS_timerfd_create, SYS_pidfd_open);
}
static void refuses_events(void) {
  refuse(SYS_epoll_create1, SYS_eventfd2, SYS_epoll_ctl, SYS_epoll_pwait2);
}

static struct deed {
  const char* name;
  void (*run)(void);
  int replaces;
} deeds[] = {
    {"close of each number", closes_each, 0},
    {"close of each number, unseen", closes_each_unseen, 0},
    {"close_range", closes_range, 0},
    {"close_range, unseen", closes_range_unseen, 0},
    {"closefrom", closes_from, 0},
    {"close of each even number, unseen", closes_even_unseen, 0},
    {"close of each odd number, unseen", closes_odd_unseen, 0},
    {"dup2 onto each number", replaces_each, 1},
    {"dup2 onto each number, unseen", replaces_each_unseen, 1},
    {"dup2 of an epoll instance onto each number, unseen", replaces_by_epoll_unseen, 0},
    {"a full table", fills, 0},
    {"RLIMIT_NOFILE 0", forbids, 0},
    {"RLIMIT_NOFILE 0, for ever", forbids_for_ever, 0},
    {"close_range, unseen, and RLIMIT_NOFILE 0", closes_all_and_forbids, 0},
    {"a filter that refuses signalfd and the like", refuses_sources, 0},
    {"a filter that refuses epoll", refuses_events, 0},
};
enum { deed_count = sizeof deeds / sizeof *deeds };

// The files put on the numbers are still there, and nothing has been written to them.
static void look_at_replaced(void) {
  struct stat want, is;
  int others = 0, bytes = -1;
  MUST(fstat(spare[1], &want));
  struct rlimit limit;
  MUST(getrlimit(RLIMIT_NOFILE, &limit));
  for (int fd = own_end; fd < most && fd < (int)limit.rlim_cur; fd++) {
    others += fstat(fd, &is) < 0 || is.st_ino != want.st_ino;
  }
  MUST(ioctl(spare[0], FIONREAD, &bytes));
  printf("  numbers with another file: %d, bytes in the pipe: %d\n", others, bytes);
}

static void* nothing(void* unused) { return unused; }

// --- the cases, each in a separate process ---

static void limit_to(rlim_t soft, rlim_t hard) {
  struct rlimit l;
  MUST(getrlimit(RLIMIT_NOFILE, &l));
  l.rlim_cur = soft;
  if (hard) l.rlim_max = hard;
  MUST(setrlimit(RLIMIT_NOFILE, &l));
}

static void begin_process(void) {
  prepare();
  MUST(pipe(spare));
}
// The child that is waited for ends with the process.
static void end_process(void) {
  if (slept >= 0) say_error("  clock_nanosleep", slept);
  fflush(stdout);
  kill(child, SIGKILL);
  _exit(0);
}
static int in_process(void) {
  fflush(stdout);
  pid_t p = MUST(fork());
  if (p == 0) return 1;
  int status;
  MUST(waitpid(p, &status, 0));
  if (status) printf("  ended with status %x\n", status);
  return 0;
}

static void lowest_number_while(struct wait* w) {
  struct worker t;
  begin_process();
  int before = lowest_free();
  start(&t, w->run, NULL);
  await_waiting(&t);
  printf("  lowest free number: %s\n", lowest_free() == before ? "the same" : "another");
  w->end();
  end_of(&t);
  end_process();
}

static void deed_while(struct wait* w, struct deed* d) {
  struct worker t;
  begin_process();
  start(&t, w->run, NULL);
  await_waiting(&t);
  d->run();
  w->end();
  end_of(&t);
  if (d->replaces) look_at_replaced();
  end_process();
}

static void deed_before(struct wait* w, struct deed* d) {
  struct worker t;
  begin_process();
  start(&t, nothing, NULL);
  end_of(&t);
  d->run();
  start(&t, w->run, NULL);
  for (int i = 0; i < 1000 || !t.tid; i++) sched_yield();
  w->end();
  end_of(&t);
  if (d->replaces) look_at_replaced();
  end_process();
}

// Before any thread has been created.
static void deed_first(struct wait* w, struct deed* d) {
  struct worker t;
  begin_process();
  d->run();
  start(&t, w->run, NULL);
  for (int i = 0; i < 1000 || !t.tid; i++) sched_yield();
  w->end();
  end_of(&t);
  end_process();
}

// Standard input may be the lowest free number.
static void stdin_opened_anew(void) {
  struct worker t;
  begin_process();
  MUST(close(0));
  start(&t, reads, NULL);
  await_waiting(&t);
  SAY("  open", open("/dev/null", O_RDONLY));
  ends_read();
  end_of(&t);
  end_process();
}

static int count_free(void) {
  static int fd[most];
  int n = 0;
  while (n < most && (fd[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) n++;
  for (int i = 0; i < n; i++) close(fd[i]);
  return n;
}
// (The result is the same natively and under the shim if there is room between the limits.)
static void whole_table(void) {
  struct worker t;
  begin_process();
  int before = count_free();
  start(&t, reads, NULL);
  await_waiting(&t);
  printf("  places in the table: %s\n", count_free() == before ? "as before" : "less");
  ends_read();
  end_of(&t);
  end_process();
}

static int count_open(void) {
  int n = 0;
  DIR* d = opendir("/proc/self/fd");
  while (readdir(d)) n++;
  closedir(d);
  return n;
}
static void* forks(void* unused) {
  fflush(stdout);
  pid_t p = MUST(fork());
  if (p == 0) {
    printf("  in a child of fork: %d descriptors\n", count_open());
    fflush(stdout);
    _exit(0);
  }
  MUST(waitpid(p, NULL, 0));
  p = MUST(fork());
  if (p == 0) {
    execlp("sh", "sh", "-c", "echo '  after exec:' $(ls /proc/self/fd | wc -l) descriptors", NULL);
    _exit(9);
  }
  MUST(waitpid(p, NULL, 0));
  return unused;
}
// Other threads wait for a child and a signal meanwhile.
static void inherited(void) {
  struct worker t[4];
  begin_process();
  start(&t[0], reads, NULL);
  start(&t[1], awaits_child, NULL);
  await_waiting(&t[0]);
  await_waiting(&t[1]);
  start(&t[2], forks, NULL);
  end_of(&t[2]);
  ends_read();
  end_of(&t[0]);
  ends_child();
  end_of(&t[1]);
  end_process();
}

// A file that the program has put on a number of the runtime is closed by the program only.
static void closes_own(void) {
  struct worker t;
  begin_process();
  start(&t, reads, NULL);
  await_waiting(&t);
  replaces_each_unseen();
  ends_read();
  end_of(&t);
  int closed = 0;
  for (int fd = own_end; fd < 300; fd++) closed += close(fd) == 0;
  printf("  numbers closed: %d\n", closed);
  end_process();
}

// A program that raises its limit gets one number after the other; the runtime occupies none.
static void raises_limit(void) {
  enum { reached = 990, last = 1200 };
  struct worker t;
  begin_process();
  start(&t, reads, NULL);
  await_waiting(&t);
  limit_to(2048, 0);
  ends_read();
  end_of(&t);
  MUST(dup2(stream[1], reached));
  stream[1] = reached;
  start(&t, reads, NULL);
  await_waiting(&t);
  int left_out = 0;
  for (int fd = (int)MUST(dup(spare[0])), next; fd < last; fd = next) {
    next = (int)MUST(dup(spare[0]));
    left_out += next - fd - 1;
  }
  // Each further hub may have two.
  const char* hubs = getenv("TENDRIL_CORES");
  int may_be = 1 + 2 * (hubs ? atoi(hubs) - 1 : 0);
  printf("  more numbers left out than may be: %d\n", left_out > may_be);
  ends_read();
  end_of(&t);
  end_process();
}

// accept(2) takes its number before it waits.
static void* accepts(void* listener) {
  int fd = *(int*)listener;
  SAY("  accept", accept(fd, NULL, NULL));
  SAY("  accept4", accept4(fd, NULL, NULL, SOCK_CLOEXEC));
  SAY("  by number", syscall(SYS_accept, fd, NULL, NULL));
  return NULL;
}
static void accepts_after(void (*deed)(void)) {
  struct worker t, other;
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  begin_process();
  int listener = MUST(socket(AF_UNIX, SOCK_STREAM, 0));
  MUST(bind(listener, (struct sockaddr*)&name, sizeof(sa_family_t)));
  MUST(listen(listener, 5));
  start(&other, reads, NULL);
  await_waiting(&other);
  deed();
  start(&t, accepts, &listener);
  end_of(&t);
  ends_read();
  end_of(&other);
  end_process();
}

int main(void) {
  struct {
    rlim_t soft, hard;
  } limits[] = {{300, 0}, {300, 300}};
  struct rlimit all;
  MUST(getrlimit(RLIMIT_NOFILE, &all));
  if (all.rlim_max < 2048) printf("the limit is too low for this\n"), exit(77);
  for (int l = 0; l < 2; l++) {
    printf("limits %d, %s\n", (int)limits[l].soft, limits[l].hard ? "the same" : "more");
#define PROCESS(title, call)                                          \
  do {                                                                \
    printf("%s\n", title);                                            \
    if (in_process()) limit_to(limits[l].soft, limits[l].hard), call; \
  } while (0)
    for (int w = 0; w < wait_count; w++) {
      char title[200];
      snprintf(title, sizeof title, "%s:", waits[w].name);
      PROCESS(title, lowest_number_while(&waits[w]));
      for (int d = 0; d < deed_count; d++) {
        snprintf(title, sizeof title, "%s, meanwhile %s:", waits[w].name, deeds[d].name);
        PROCESS(title, deed_while(&waits[w], &deeds[d]));
        if (!limits[l].hard) continue;
        snprintf(title, sizeof title, "%s after %s:", waits[w].name, deeds[d].name);
        PROCESS(title, deed_before(&waits[w], &deeds[d]));
        if (deeds[d].replaces || deeds[d].run == replaces_by_epoll_unseen) continue;
        snprintf(title, sizeof title, "%s after %s, before the first thread:", waits[w].name,
                 deeds[d].name);
        PROCESS(title, deed_first(&waits[w], &deeds[d]));
      }
    }
    PROCESS("standard input:", stdin_opened_anew());
    PROCESS("what a child gets:", inherited());
    PROCESS("close after dup2, unseen:", closes_own());
    if (!limits[l].hard) PROCESS("a raised limit:", raises_limit());
    PROCESS("accept in a full table:", accepts_after(fills));
    PROCESS("accept with RLIMIT_NOFILE 0:", accepts_after(forbids));
    if (!limits[l].hard) PROCESS("the whole table:", whole_table());
  }
  return 0;
}
