// sigaction(2), signal(2), sigset(3), siginterrupt(3): what they report of the installed action;
// pause(2), sigsuspend(2), alarm(2); which calls SA_RESTART restarts.
#include "cases.h"

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#pragma GCC diagnostic ignored "-Wrestrict"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>

static const struct timespec hour = {3600, 0};
static const struct timespec instant = {0, 1000000};

static void one(int s) {
  (void)s;
  handled++;
}
static void two(int s) {
  (void)s;
  handled += 10;
}
static void three(int s, siginfo_t* i, void* c) {
  (void)s, (void)i, (void)c;
  handled += 100;
}

static const char* name_of(void* f) {
  return f == (void*)SIG_DFL    ? "SIG_DFL"
         : f == (void*)SIG_IGN  ? "SIG_IGN"
         : f == (void*)SIG_ERR  ? "SIG_ERR"
         : f == (void*)SIG_HOLD ? "SIG_HOLD"
         : f == (void*)one      ? "one"
         : f == (void*)two      ? "two"
         : f == (void*)three    ? "three"
                                : "something else";
}
static void say_action(const char* sentence, const struct sigaction* a) {
  printf("%s: %s flags %x masks", sentence, name_of((void*)a->sa_handler), (unsigned)a->sa_flags);
  for (int s = 1; s < 32; s++) {
    if (sigismember(&a->sa_mask, s)) printf(" %d", s);
  }
  printf("\n");
}

static void actions(void) {
  static const int flags[] = {0,          SA_RESTART,       SA_NODEFER, SA_NOCLDSTOP, SA_NOCLDWAIT,
                              SA_ONSTACK, (int)SA_RESETHAND};
  void* handlers[] = {(void*)SIG_DFL, (void*)SIG_IGN, (void*)one, (void*)two, (void*)three};
  struct sigaction a, old;
  MUST(sigaction(SIGUSR1, NULL, &old));
  say_action("at first", &old);
  unsigned seed = 1;
  for (int i = 0; i < 120; i++) {
    memset(&a, 0, sizeof a);
    seed = seed * 1103515245 + 12345;
    unsigned r = seed >> 8;
    void* h = handlers[r % 5];
    a.sa_handler = (void (*)(int))h;
    for (int f = 0; f < 7; f++) {
      if (r >> (4 + f) & 1) a.sa_flags |= flags[f];
    }
    if (h == (void*)three || (r & 4096)) a.sa_flags |= SA_SIGINFO;
    if (r & 8192) sigaddset(&a.sa_mask, SIGHUP);
    if (r & 16384) sigaddset(&a.sa_mask, SIGTERM);
    if (r & 32768) sigaddset(&a.sa_mask, SIGKILL);
    errno = 0;
    int done = sigaction(SIGUSR1, &a, &old);
    if (done) printf("failed\n");
    say_action("old", &old);
    if (i % 3 == 0) {
      MUST(sigaction(SIGUSR1, NULL, &old));
      say_action("now", &old);
    }
    if (h != (void*)SIG_DFL) {
      raise(SIGUSR1);
      SAY("raised", take_handled());
      MUST(sigaction(SIGUSR1, NULL, &old));
      say_action("then", &old);
    }
    if (i % 7 == 0) {
      printf("signal: %s\n", name_of((void*)signal(SIGUSR1, one)));
      MUST(sigaction(SIGUSR1, NULL, &old));
      say_action("then", &old);
    }
    // The same object for both arguments.
    if (i % 11 == 0) {
      MUST(sigaction(SIGUSR1, &a, &a));
      say_action("old in the same place", &a);
    }
  }
  memset(&a, 0, sizeof a);
  a.sa_handler = one;
  static const int bad[] = {SIGKILL, SIGSTOP, 0, -1, 65, 1000, 32, 33};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    printf("signal %d: ", bad[i]);
    SAY("sigaction", sigaction(bad[i], &a, NULL));
    SAY("  asking only", sigaction(bad[i], NULL, &old));
    errno = 0;
    void* r = (void*)signal(bad[i], one);
    printf("  signal: %s %s\n", name_of(r), strerrorname_np(errno));
    a.sa_handler = SIG_DFL;
    SAY("  back to the default", sigaction(bad[i], &a, NULL));
    a.sa_handler = one;
  }
  SAY("neither old nor new", sigaction(SIGUSR1, NULL, NULL));
  errno = 0;
  printf("signal with SIG_ERR: %s", name_of((void*)signal(SIGUSR1, SIG_ERR)));
  printf(" %s\n", strerrorname_np(errno));
  printf("signal with SIG_IGN: %s\n", name_of((void*)signal(SIGUSR1, SIG_IGN)));
  printf("signal with one: %s\n", name_of((void*)signal(SIGUSR1, one)));
  printf("signal with two: %s\n", name_of((void*)signal(SIGUSR1, two)));
  printf("signal with SIG_DFL: %s\n", name_of((void*)signal(SIGUSR1, SIG_DFL)));
  printf("signal with SIG_DFL: %s\n", name_of((void*)signal(SIGUSR1, SIG_DFL)));

  extern sighandler_t sysv_signal(int, sighandler_t);
  printf("sysv_signal: %s\n", name_of((void*)sysv_signal(SIGUSR1, one)));
  MUST(sigaction(SIGUSR1, NULL, &old));
  say_action("  installs", &old);
  raise(SIGUSR1);
  MUST(sigaction(SIGUSR1, NULL, &old));
  say_action("  once", &old);
  // Other names of them.
  extern sighandler_t bsd_signal(int, sighandler_t), __sysv_signal(int, sighandler_t);
  sighandler_t (*const names[])(int, sighandler_t) = {bsd_signal, ssignal, __sysv_signal};
  for (int i = 0; i < 3; i++) {
    printf("by another name: %s\n", name_of((void*)names[i](SIGUSR1, one)));
    MUST(sigaction(SIGUSR1, NULL, &old));
    say_action("  installs", &old);
    take_handled();
    SAY("  gsignal", gsignal(SIGUSR1));
    SAY("  ran", take_handled());
    MUST(sigaction(SIGUSR1, NULL, &old));
    say_action("  leaves", &old);
  }
  SAY("siginterrupt", siginterrupt(SIGUSR1, 1));
  printf("signal: %s\n", name_of((void*)signal(SIGUSR1, two)));
  MUST(sigaction(SIGUSR1, NULL, &old));
  say_action("  interrupts", &old);
  SAY("siginterrupt", siginterrupt(SIGUSR1, 0));
  MUST(sigaction(SIGUSR1, NULL, &old));
  say_action("  restarts at once", &old);
  SAY("siginterrupt", siginterrupt(SIGUSR1, 1));
  MUST(sigaction(SIGUSR1, NULL, &old));
  say_action("  interrupts at once", &old);
  SAY("siginterrupt", siginterrupt(SIGUSR1, 0));
  SAY("siginterrupt of a bad signal", siginterrupt(99, 0));
  printf("sigset: %s\n", name_of((void*)sigset(SIGUSR1, one)));
  printf("sigset to hold: %s\n", name_of((void*)sigset(SIGUSR1, SIG_HOLD)));
  printf("sigset from hold: %s\n", name_of((void*)sigset(SIGUSR1, two)));
  MUST(sigaction(SIGUSR1, NULL, &old));
  say_action("  installs", &old);
  printf("sigset back: %s\n", name_of((void*)sigset(SIGUSR1, SIG_DFL)));
  errno = 0;
  printf("sigset of a bad signal: %s", name_of((void*)sigset(99, one)));
  printf(" %s\n", strerrorname_np(errno));
  take_handled();
}

static void send_me(int signal) {
  if (peer()) {
    await_blocked();
    kill(getppid(), signal);
    leave();
  }
}

static void waiting(void) {
  sigset_t set, before, now;
  on_signal(SIGUSR1, 0);
  take_handled();
  send_me(SIGUSR1);
  SAY("pause", pause());
  SAY("  the handler ran before it returned", take_handled());
  peer_ends();
  on_signal(SIGUSR1, SA_RESTART);
  send_me(SIGUSR1);
  SAY("pause and SA_RESTART", pause());
  peer_ends();
  signal(SIGUSR2, SIG_IGN);
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR2);
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  SAY("pause and a signal that is ignored", pause());
  SAY("  handlers", take_handled());
  peer_ends();
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGSTOP);
    kill(getppid(), SIGCONT);
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  take_handled();
  SAY("pause through a stop", pause());
  SAY("  handlers", take_handled());
  peer_ends();
  on_signal(SIGALRM, 0);
  // it repeats, since the first signal may come before the pause
  struct itimerval soon = {{1, 0}, {1, 0}}, never = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &soon, NULL);
  SAY("pause and an alarm", pause());
  setitimer(ITIMER_REAL, &never, NULL);
  SAY("  handlers", take_handled() > 0);

  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, &before);
  raise(SIGUSR1);
  SAY("a blocked signal waits", take_handled());
  SAY("sigsuspend lets a pending signal in", sigsuspend(&before));
  SAY("  once", take_handled());
  sigprocmask(SIG_BLOCK, NULL, &now);
  SAY("  the mask is restored", sigismember(&now, SIGUSR1));
  send_me(SIGUSR1);
  SAY("sigsuspend waits", sigsuspend(&before));
  SAY("  once", take_handled());
  peer_ends();
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    await_blocked();
    kill(getppid(), SIGALRM);
    leave();
  }
  SAY("sigsuspend does not let in what its mask blocks", sigsuspend(&set));
  SAY("  so far", take_handled());
  sigprocmask(SIG_SETMASK, &before, NULL);
  SAY("  and then", take_handled());
  peer_ends();
  SAY("sigsuspend with a bad address", sigsuspend(NOWHERE));
  sigfillset(&set);
  sigdelset(&set, SIGUSR1);
  send_me(SIGUSR1);
  SAY("sigsuspend with all but one", sigsuspend(&set));
  SAY("  once", take_handled());
  peer_ends();
}

static int p[2], s[2], other[2];
static char buf[1 << 20];

static void restarts(void) {
  struct pollfd f;
  struct epoll_event e;
  struct timeval t;
  fd_set set;
  sigset_t none;
  sigemptyset(&none);
  MUST(pipe(p));
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, s));
  MUST(pipe(other));
  int ep = (int)MUST(epoll_create1(0));
  e.events = EPOLLIN;
  e.data.fd = p[0];
  MUST(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e));
  f = (struct pollfd){.fd = p[0], .events = POLLIN};
  FD_ZERO(&set);
  FD_SET(p[0], &set);
  SAY_INTERRUPTED("read", read(p[0], buf, 1), write(p[1], "a", 1));
  SAY_INTERRUPTED("recv", recv(s[0], buf, 1, 0), write(s[1], "a", 1));
  while (send(s[0], buf, sizeof buf, MSG_DONTWAIT) > 0) {}
  SAY_INTERRUPTED("send", send(s[0], "a", 1, 0), read(s[1], buf, sizeof buf));
  // poll is never restarted.
  SAY_INTERRUPTED("poll", poll(&f, 1, -1), (void)0);
  SAY_INTERRUPTED("poll with a time-out", poll(&f, 1, 1000000), (void)0);
  SAY_INTERRUPTED("ppoll", ppoll(&f, 1, &hour, &none), (void)0);
  SAY_INTERRUPTED("select", select(p[0] + 1, &set, NULL, NULL, NULL), (void)0);
  SAY_INTERRUPTED("pselect", pselect(p[0] + 1, &set, NULL, NULL, &hour, &none), (void)0);
  SAY_INTERRUPTED("epoll_wait", epoll_wait(ep, &e, 1, -1), (void)0);
  SAY_INTERRUPTED("epoll_pwait", epoll_pwait(ep, &e, 1, 1000000, &none), (void)0);
  SAY_INTERRUPTED("nanosleep", nanosleep(&hour, NULL), (void)0);
  t = (struct timeval){3600, 0};
  MUST(setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
  while (recv(s[1], buf, sizeof buf, MSG_DONTWAIT) > 0) {}
  SAY_INTERRUPTED("recv with a time-out", recv(s[1], buf, 1, 0), (void)0);
  // A handler that ran before the call does not affect it.
  on_signal(SIGUSR1, 0);
  raise(SIGUSR1);
  SAY("poll after a handler", poll(&f, 1, 1));
  raise(SIGUSR1);
  SAY("nanosleep after a handler", nanosleep(&instant, NULL));
  raise(SIGUSR1);
  if (peer()) {
    await_blocked();
    write(p[1], "a", 1);
    leave();
  }
  SAY("read after a handler", read(p[0], buf, 1));
  peer_ends();
  // One handler with SA_RESTART and one without.
  on_signal(SIGUSR2, 0);
  on_signal(SIGUSR1, SA_RESTART);
  take_handled();
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    await_blocked();
    kill(getppid(), SIGUSR2);
    leave();
  }
  SAY("read, SA_RESTART, then without", read(p[0], buf, 1));
  SAY("  handlers", take_handled());
  peer_ends();
  if (peer()) {
    await_blocked();
    leave();
  }
  on_signal(SIGCHLD, 0);
  SAY("read and SIGCHLD", read(p[0], buf, 1));
  peer_ends();
  on_signal(SIGCHLD, SA_RESTART);
  if (peer()) {
    if (fork() == 0) {
      await_blocked_pid(getppid());
      await_blocked_pid(getppid());
      _exit(0);
    }
    wait(NULL);
    await_blocked();
    write(p[1], "a", 1);
    leave();
  }
  SAY("read, restarted after SIGCHLD", read(p[0], buf, 1));
  peer_ends();
  signal(SIGCHLD, SIG_DFL);
}

int main(void) {
  actions();
  waiting();
  restarts();
}
