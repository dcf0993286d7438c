// sigwait(3), sigwaitinfo(2), sigtimedwait(2).
#include "cases.h"

static const struct timespec none = {0, 0}, soon = {0, 2000000}, hour = {3600, 0};

static void say_info(const char* sentence, const siginfo_t* i, pid_t sender) {
  printf("%s: signal %d code %d sender %d value %d\n", sentence, i->si_signo, i->si_code,
         i->si_pid == sender, i->si_code == SI_QUEUE ? i->si_value.sival_int : 0);
}

int main(void) {
  sigset_t set, empty, usr2;
  siginfo_t info;
  int signal_number;
  sigemptyset(&empty);
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGRTMIN);
  sigaddset(&set, SIGRTMIN + 1);
  sigaddset(&set, SIGCHLD);
  sigemptyset(&usr2);
  sigaddset(&usr2, SIGUSR2);
  MUST(sigprocmask(SIG_BLOCK, &set, NULL));

  SAY("nothing is pending", sigtimedwait(&set, &info, &none));
  SAY("nothing comes", sigtimedwait(&set, &info, &soon));
  struct timespec bad = {0, -1};
  SAY("a bad time-out", sigtimedwait(&set, &info, &bad));
  bad = (struct timespec){0, 1000000000};
  SAY("too many nanoseconds", sigtimedwait(&set, &info, &bad));
  bad = (struct timespec){-1, 0};
  SAY("a negative time-out", sigtimedwait(&set, &info, &bad));
  SAY("a bad address of the set", sigtimedwait(NOWHERE, &info, &none));
  SAY("a bad address of the time-out", sigtimedwait(&set, &info, NOWHERE));
  SAY("an empty set", sigtimedwait(&empty, &info, &soon));

  raise(SIGUSR1);
  SAY("a pending signal", sigwaitinfo(&set, &info));
  say_info("  came by raise", &info, getpid());
  kill(getpid(), SIGUSR1);
  SAY("a pending signal, without siginfo", sigwaitinfo(&set, NULL));
  for (int i = 3; i > 0; i--)
    sigqueue(getpid(), SIGRTMIN + (i == 2), (union sigval){.sival_int = i});
  for (int i = 0; i < 3; i++) {
    SAY("real-time signals come in their order", sigtimedwait(&set, &info, &hour) - SIGRTMIN);
    printf("  value %d\n", info.si_value.sival_int);
  }
  SAY("and then none", sigtimedwait(&set, &info, &none));

  if (peer()) {
    await_blocked();
    sigqueue(getppid(), SIGRTMIN, (union sigval){.sival_int = 42});
    await_blocked();
    leave();
  }
  SAY("sigwaitinfo waits", sigwaitinfo(&set, &info) - SIGRTMIN);
  printf("  code %d value %d sender %d\n", info.si_code, info.si_value.sival_int,
         info.si_pid == peer_pid);
  SAY("the peer's end", sigwaitinfo(&set, &info));
  printf("  code %d status %d sender %d\n", info.si_code, info.si_status, info.si_pid == peer_pid);
  peer_ends();

  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    await_blocked();
    leave();
  }
  SAY("sigwait", sigwait(&set, &signal_number));
  printf("  signal %d\n", signal_number);
  SAY("the peer's end", sigwait(&set, &signal_number));
  printf("  signal %d\n", signal_number);
  peer_ends();

  // A handler runs for a signal that is not waited for.
  on_signal(SIGUSR2, SA_RESTART);
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR2);
    pause();
  }
  SAY("sigwaitinfo and a handler", sigwaitinfo(&set, &info));
  kill(peer_pid, SIGKILL);
  while (waitpid(peer_pid, NULL, 0) < 0) {}
  SAY("  handlers", take_handled());
  sigtimedwait(&set, &info, &none);
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR2);
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  sigdelset(&set, SIGCHLD);
  SAY("sigwait goes on after a handler", sigwait(&set, &signal_number));
  printf("  signal %d\n", signal_number);
  SAY("  handlers", take_handled());
  peer_ends();

  // The wait takes a signal that it waits for even if that is not blocked.
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  on_signal(SIGUSR1, 0);
  SAY("a signal with a handler, blocked", sigwaitinfo(&set, &info));
  SAY("  handlers", take_handled());
  peer_ends();
  sigset_t old;
  sigprocmask(SIG_BLOCK, &usr2, &old);
  raise(SIGUSR2);
  SAY("a signal that is not in the set stays pending", sigtimedwait(&set, &info, &none));
  sigset_t pending;
  sigpending(&pending);
  SAY("  indeed", sigismember(&pending, SIGUSR2));
  SAY("and can be waited for", sigtimedwait(&usr2, &info, &none));
  // SIGKILL in a set is ignored.
  sigaddset(&set, SIGKILL);
  raise(SIGUSR1);
  SAY("SIGKILL in the set", sigwaitinfo(&set, &info));
  // Two processes wait.
  pid_t both[2];
  fflush(stdout);
  for (int i = 0; i < 2; i++) {
    if ((both[i] = MUST(fork())) == 0)
      _exit(sigwait(&set, &signal_number) == 0 ? signal_number : 99);
  }
  for (int i = 0; i < 2; i++) {
    int status;
    await_blocked_pid(both[i]);
    kill(both[i], SIGUSR1);
    waitpid(both[i], &status, 0);
    SAY("a child's sigwait", WEXITSTATUS(status));
  }
}
