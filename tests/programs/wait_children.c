// wait(2), waitpid(2), wait3(2), wait4(2), waitid(2).
#include "cases.h"

#include <setjmp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

// A child that ends when we are blocked, with that status; a status above 1000 means a signal.
static pid_t child(int status, int wait_first) {
  fflush(stdout);
  pid_t p = MUST(fork());
  if (p == 0) {
    if (wait_first) await_blocked();
    if (status > 1000) {
      signal(status - 1000, SIG_DFL);
      kill(getpid(), status - 1000);
      for (;;) pause();
    }
    _exit(status);
  }
  return p;
}
// A child that waits to be killed.
static pid_t idle(void) {
  fflush(stdout);
  pid_t p = MUST(fork());
  if (p == 0) {
    for (;;) pause();
  }
  return p;
}
// The parent notifies its peer when it has handled a signal; only then the peer sends the next one.
static int steps[2];
static void next_step(void) { write(steps[1], "n", 1); }
static void await_step(void) {
  char b;
  read(steps[0], &b, 1);
  await_blocked();
}
static void say_status(int s) {
  printf("  exited %d %d signaled %d %d core %d stopped %d %d continued %d\n", !!WIFEXITED(s),
         WIFEXITED(s) ? WEXITSTATUS(s) : 0, !!WIFSIGNALED(s), WIFSIGNALED(s) ? WTERMSIG(s) : 0,
         WIFSIGNALED(s) ? !!WCOREDUMP(s) : 0, !!WIFSTOPPED(s), WIFSTOPPED(s) ? WSTOPSIG(s) : 0,
         !!WIFCONTINUED(s));
}
#define SAY_IS(sentence, expected, call)                       \
  do {                                                         \
    errno = 0;                                                 \
    long r_ = (call);                                          \
    if (r_ == (expected)) printf("%s: the child\n", sentence); \
    else say(sentence, r_ > 0 ? -3 : r_, errno);               \
  } while (0)

static void waits(void) {
  int s = 77;
  SAY("wait without children", wait(&s));
  SAY("  leaves the status", s);
  SAY("waitpid of a process that is no child", waitpid(1, &s, 0));
  SAY("waitpid of a process that is not there", waitpid(0x3fffffff, &s, 0));
  SAY("waitpid of an empty group", waitpid(-0x3fffffff, &s, 0));
  SAY("waitpid of our group, no children", waitpid(0, &s, 0));
  SAY("waitpid with bad options", waitpid(-1, &s, 0x1000));
  SAY("waitpid of INT_MIN", waitpid((pid_t)0x80000000, &s, 0));

  for (int wait_first = 0; wait_first < 2; wait_first++) {
    pid_t c = child(3, wait_first);
    SAY_IS("wait", c, wait(&s));
    say_status(s);
    c = child(0, wait_first);
    SAY_IS("wait without asking for the status", c, wait(NULL));
    c = child(255, wait_first);
    SAY_IS("waitpid", c, waitpid(c, &s, 0));
    say_status(s);
    SAY("waitpid again", waitpid(c, &s, 0));
    c = child(1000 + SIGTERM, wait_first);
    SAY_IS("waitpid(-1) of a child that a signal ends", c, waitpid(-1, &s, 0));
    say_status(s);
    c = child(1000 + SIGKILL, wait_first);
    SAY_IS("waitpid(0)", c, waitpid(0, &s, 0));
    say_status(s);
    struct rusage u;
    memset(&u, 0xff, sizeof u);
    c = child(4, wait_first);
    SAY_IS("wait3", c, wait3(&s, 0, &u));
    say_status(s);
    SAY("  with its use of resources",
        u.ru_maxrss > 0 && u.ru_utime.tv_sec >= 0 && u.ru_utime.tv_usec < 1000000);
    memset(&u, 0xff, sizeof u);
    c = child(5, wait_first);
    SAY_IS("wait4", c, wait4(c, &s, 0, &u));
    say_status(s);
    SAY("  with its use of resources",
        u.ru_maxrss > 0 && u.ru_utime.tv_sec >= 0 && u.ru_utime.tv_usec < 1000000);
    c = child(6, wait_first);
    SAY_IS("__WALL", c, waitpid(c, &s, __WALL));
    c = child(6, wait_first);
    SAY_IS("__WNOTHREAD", c, waitpid(c, &s, __WNOTHREAD));
    c = child(6, wait_first);
    SAY("__WCLONE has no such children", waitpid(c, &s, __WCLONE));
    SAY_IS("  but there it is", c, waitpid(c, &s, 0));
    c = child(6, wait_first);
    SAY("a bad address", waitpid(c, NOWHERE, 0));
    SAY("  takes the child all the same", waitpid(c, &s, 0));
  }

  pid_t c = idle();
  SAY("WNOHANG", waitpid(c, &s, WNOHANG));
  SAY("WNOHANG of any", waitpid(-1, &s, WNOHANG));
  MUST(setpgid(c, c));
  if (peer()) {
    await_blocked();
    kill(c, SIGKILL);
    leave();
  }
  SAY_IS("the child's own group", c, waitpid(-c, &s, 0));
  say_status(s);
  peer_ends();
  pid_t other = idle();
  c = child(7, 1);
  MUST(setpgid(c, c));
  SAY_IS("  while a child of our group goes on", c, waitpid(-c, &s, 0));
  say_status(s);
  kill(other, SIGKILL);
  SAY_IS("  which then ends", other, waitpid(0, &s, 0));

  c = idle();
  if (peer()) {
    await_blocked();
    kill(c, SIGSTOP);
    await_step();
    kill(c, SIGCONT);
    await_step();
    kill(c, SIGSTOP);
    await_step();
    kill(c, SIGKILL);
    leave();
  }
  SAY_IS("WUNTRACED", c, waitpid(c, &s, WUNTRACED));
  say_status(s);
  next_step();
  SAY_IS("WCONTINUED", c, waitpid(c, &s, WCONTINUED));
  say_status(s);
  next_step();
  SAY_IS("WUNTRACED, again", c, waitpid(c, &s, WUNTRACED | WCONTINUED));
  say_status(s);
  next_step();
  SAY_IS("and without it", c, waitpid(c, &s, 0));
  say_status(s);
  peer_ends();

  c = idle();
  SAY_INTERRUPTED("waitpid", waitpid(c, &s, 0) == c ? 1 : -1, kill(c, SIGKILL));
  c = idle();
  pid_t group = c;
  setpgid(c, c);
  SAY_INTERRUPTED("waitpid of a group", waitpid(-group, &s, 0) == c ? 1 : -1, kill(c, SIGKILL));
  signal(SIGUSR1, SIG_DFL);

  // Two children, in the order of their end.
  pid_t first = child(1, 1), second = idle();
  SAY_IS("the first that ends", first, wait(&s));
  kill(second, SIGKILL);
  SAY_IS("then the other", second, wait(&s));
}

static void say_info(const siginfo_t* i, pid_t c) {
  printf("  signal %d code %d status %d the child %d uid %d\n", i->si_signo, i->si_code,
         i->si_status, i->si_pid == c, i->si_uid == getuid());
}
static int pidfd_of(pid_t c) { return (int)MUST(syscall(SYS_pidfd_open, c, 0)); }

static void waitids(void) {
  siginfo_t i;
  memset(&i, 0xff, sizeof i);
  SAY("waitid without children", waitid(P_ALL, 0, &i, WEXITED));
  say_info(&i, 0);
  SAY("waitid for nothing", waitid(P_ALL, 0, &i, 0));
  SAY("waitid with bad options", waitid(P_ALL, 0, &i, WEXITED | 0x800));
  SAY("waitid of a bad kind", waitid((idtype_t)9, 0, &i, WEXITED));
  SAY("waitid P_PID of 0", waitid(P_PID, 0, &i, WEXITED));
  SAY("waitid P_PIDFD of no descriptor", waitid((idtype_t)P_PIDFD, 999, &i, WEXITED));
  SAY("waitid P_PIDFD of something else", waitid((idtype_t)P_PIDFD, 0, &i, WEXITED));
  for (int wait_first = 0; wait_first < 2; wait_first++) {
    pid_t c = child(7, wait_first);
    SAY("P_ALL", waitid(P_ALL, 0, &i, WEXITED));
    say_info(&i, c);
    c = child(1000 + SIGTERM, wait_first);
    SAY("P_PID", waitid(P_PID, (id_t)c, &i, WEXITED));
    say_info(&i, c);
    c = child(8, wait_first);
    SAY("P_PGID", waitid(P_PGID, 0, &i, WEXITED));
    say_info(&i, c);
    c = child(9, wait_first);
    SAY("WNOWAIT", waitid(P_PID, (id_t)c, &i, WEXITED | WNOWAIT));
    say_info(&i, c);
    SAY("  leaves it", waitid(P_PID, (id_t)c, NULL, WEXITED));
    SAY("  and then it has been reaped", waitid(P_PID, (id_t)c, &i, WEXITED));
    c = child(10, wait_first);
    int fd = pidfd_of(c);
    SAY("P_PIDFD", waitid((idtype_t)P_PIDFD, (id_t)fd, &i, WEXITED));
    say_info(&i, c);
    SAY("P_PIDFD again", waitid((idtype_t)P_PIDFD, (id_t)fd, &i, WEXITED));
    close(fd);
    c = child(11, wait_first);
    SAY("a bad address", waitid(P_PID, (id_t)c, NOWHERE, WEXITED));
    waitpid(c, NULL, 0);
  }
  pid_t c = idle();
  memset(&i, 0xff, sizeof i);
  SAY("WNOHANG", waitid(P_PID, (id_t)c, &i, WEXITED | WNOHANG));
  SAY("  finds no child", i.si_pid);
  int fd = pidfd_of(c);
  int fd2 = (int)syscall(SYS_pidfd_open, c, O_NONBLOCK);
  SAY("a non-blocking pidfd", waitid((idtype_t)P_PIDFD, (id_t)fd2, &i, WEXITED));
  if (peer()) {
    await_blocked();
    kill(c, SIGSTOP);
    await_step();
    kill(c, SIGCONT);
    await_step();
    kill(c, SIGSTOP);
    await_step();
    kill(c, SIGCONT);
    await_step();
    kill(c, SIGKILL);
    leave();
  }
  SAY("WSTOPPED", waitid(P_PID, (id_t)c, &i, WSTOPPED));
  say_info(&i, c);
  next_step();
  SAY("WCONTINUED", waitid(P_PID, (id_t)c, &i, WCONTINUED));
  say_info(&i, c);
  next_step();
  SAY("WSTOPPED by pidfd", waitid((idtype_t)P_PIDFD, (id_t)fd, &i, WSTOPPED | WEXITED));
  say_info(&i, c);
  next_step();
  SAY("WCONTINUED by pidfd", waitid((idtype_t)P_PIDFD, (id_t)fd, &i, WCONTINUED | WEXITED));
  say_info(&i, c);
  next_step();
  SAY("WEXITED by pidfd", waitid((idtype_t)P_PIDFD, (id_t)fd, &i, WEXITED));
  say_info(&i, c);
  peer_ends();
  close(fd);
  close(fd2);
  c = idle();
  fd = pidfd_of(c);
  SAY_INTERRUPTED("waitid", waitid((idtype_t)P_PIDFD, (id_t)fd, &i, WEXITED), kill(c, SIGKILL));
  close(fd);
}

static void grandchildren(void) {
  int s;
  // A child whose parent has ended becomes our child.
  MUST(prctl(PR_SET_CHILD_SUBREAPER, 1));
  pid_t c = child(0, 0);
  waitpid(c, NULL, 0);
  fflush(stdout);
  c = MUST(fork());
  if (c == 0) {
    pid_t middle = getpid();
    if (fork() == 0) {
      while (getppid() == middle) sched_yield();
      await_blocked();
      _exit(21);
    }
    _exit(20);
  }
  waitpid(c, &s, 0);
  say_status(s);
  SAY("a grandchild", wait(&s) > 0);
  say_status(s);
  SAY("and no more", wait(&s));
  MUST(prctl(PR_SET_CHILD_SUBREAPER, 0));
}

// A wait that a handler leaves by siglongjmp keeps no descriptor open for good.
static sigjmp_buf back;
static void jump(int s) { (void)s, siglongjmp(back, 1); }
static int count_open(void) {
  int n = 0;
  DIR* d = opendir("/proc/self/fd");
  while (readdir(d)) n++;
  closedir(d);
  return n;
}
static void left(void) {
  static int before, times;  // static: siglongjmp leaves them alone
  int s;
  pid_t c = idle();
  signal(SIGUSR2, jump);
  for (int i = 0; i < 12; i++) {
    if (peer()) {
      await_blocked();
      kill(getppid(), SIGUSR2);
      leave();
    }
    if (sigsetjmp(back, 1) == 0) SAY_IS("NOT LEFT: waitpid", c, waitpid(c, &s, 0));
    else times++;
    peer_ends();
    if (i == 1) before = count_open();
  }
  SAY("waitpid, left by siglongjmp", times);
  // The last wait's may still be there.
  SAY("  more than one descriptor more after twelve times than after two",
      count_open() - before > 1);
  kill(c, SIGKILL);
  SAY_IS("  waitpid", c, waitpid(c, &s, 0));
  say_status(s);
  SAY("  no more than one after that", count_open() <= before + 1);
}

static void ignored(void) {
  int s;
  signal(SIGCHLD, SIG_IGN);
  for (int wait_first = 0; wait_first < 2; wait_first++) {
    pid_t c = child(3, wait_first);
    SAY("SIGCHLD ignored: waitpid", waitpid(c, &s, 0));
    child(3, wait_first);
    child(3, wait_first);
    SAY("SIGCHLD ignored: wait, until all have ended", wait(&s));
  }
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_handler = count_signal;
  a.sa_flags = SA_NOCLDWAIT | SA_RESTART;
  MUST(sigaction(SIGCHLD, &a, NULL));
  child(3, 1);
  take_handled();
  SAY("SA_NOCLDWAIT: wait", wait(&s));
  SAY("  SIGCHLD came", take_handled());
  signal(SIGCHLD, SIG_DFL);
}

int main(void) {
  MUST(pipe(steps));
  waits();
  waitids();
  grandchildren();
  left();
  ignored();
}
