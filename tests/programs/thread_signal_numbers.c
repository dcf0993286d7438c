// Every signal number belongs to the program, also the last real-time ones, while threads compute
// and are preempted: blocked and waited for in every way, handled, queued with values, sent by
// another process, and with its default action.
#include "threads.h"

#include <poll.h>
#include <sys/signalfd.h>

static volatile int stop;
static void* computes(void* p) {
  while (!stop) {}
  return p;
}
static void* naps(void* p) {
  while (!stop) usleep(1000);
  return p;
}

static sigset_t only(int signal) {
  sigset_t s;
  sigemptyset(&s);
  sigaddset(&s, signal);
  return s;
}
// Sends the signal from another process.
static void from_outside(int signal, int value) {
  pid_t me = getpid(), child = MUST(fork());
  if (child == 0)
    _exit(value < 0 ? kill(me, signal) : sigqueue(me, signal, (union sigval){.sival_int = value}));
  int status;
  while (waitpid(child, &status, 0) < 0) {}
  if (status) printf("it could not be sent\n");
}

static volatile int last_value, last_code;
static volatile pid_t last_sender;
static void note(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)context;
  last_value = info->si_value.sival_int;
  last_code = info->si_code;
  last_sender = info->si_pid;
  handled++;
}

static const char* const ways[] = {"sigwait", "sigtimedwait", "signalfd", "a handler",
                                   "a handler, twice"};
static int works(int signal, int way) {
  sigset_t s = only(signal), pending;
  siginfo_t info;
  struct signalfd_siginfo told;
  struct timespec long_enough = {20, 0};
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_flags = SA_SIGINFO;
  a.sa_sigaction = note;
  int got = 0, ok = 0;
  take_handled();
  if (way < 3) {
    from_outside(signal, 1000 + signal);
    sigpending(&pending);
    if (!sigismember(&pending, signal)) return 0;
  } else {
    MUST(sigaction(signal, &a, NULL));
    from_outside(signal, 1000 + signal);
    if (way == 4) from_outside(signal, 2000 + signal);
  }
  switch (way) {
    case 0:
      ok = sigwait(&s, &got) == 0 && got == signal;
      break;
    case 1:
      ok = sigtimedwait(&s, &info, &long_enough) == signal &&
           info.si_value.sival_int == 1000 + signal && info.si_code == SI_QUEUE;
      break;
    case 2: {
      int fd = MUST(signalfd(-1, &s, SFD_CLOEXEC));
      struct pollfd f = {fd, POLLIN, 0};
      ok = poll(&f, 1, 20000) == 1 && read(fd, &told, sizeof told) == sizeof told &&
           (int)told.ssi_signo == signal && told.ssi_int == 1000 + signal;
      close(fd);
      break;
    }
    default:
      pthread_sigmask(SIG_UNBLOCK, &s, NULL);
      while (handled < way - 2) sched_yield();
      pthread_sigmask(SIG_BLOCK, &s, NULL);
      ok = handled == way - 2 && last_value == (way - 2) * 1000 + signal && last_code == SI_QUEUE &&
           last_sender != getpid();
      a.sa_handler = SIG_DFL;
      MUST(sigaction(signal, &a, NULL));
  }
  sigpending(&pending);
  return ok && !sigismember(&pending, signal);
}

// A process with threads that gets the signal from outside while it computes.
static void dies_by(int signal) {
  fflush(stdout);
  pid_t child = MUST(fork());
  if (child == 0) {
    pthread_t t;
    pthread_create(&t, NULL, computes, NULL);
    kill(getpid(), signal);
    for (;;) usleep(1000);
  }
  int status;
  while (waitpid(child, &status, 0) < 0) {}
  printf("  by default it ends the process: %d\n",
         WIFSIGNALED(status) && WTERMSIG(status) == signal);
}

int main(void) {
  struct worker w[3];
  sigset_t all;
  sigemptyset(&all);
  for (int s = SIGRTMIN; s <= SIGRTMAX; s++) sigaddset(&all, s);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  start(&w[0], computes, NULL);
  start(&w[1], computes, NULL);
  start(&w[2], naps, NULL);
  for (int way = 0; way < 5; way++) {
    int right = 0;
    for (int s = SIGRTMIN; s <= SIGRTMAX; s++) right += works(s, way);
    printf("%s: %d of %d\n", ways[way], right, SIGRTMAX - SIGRTMIN + 1);
  }
  stop = 1;
  for (int i = 0; i < 3; i++) end_of(&w[i]);
  stop = 0;
  struct sigaction is;
  int set = 0, refused = 0;
  for (int s = 1; s < NSIG; s++) {
    if (sigaction(s, NULL, &is) < 0) refused++;
    else if (is.sa_handler != SIG_DFL) set++;
  }
  printf("handlers that are installed: %d, numbers that have none: %d\n", set, refused);
  pthread_sigmask(SIG_UNBLOCK, &all, NULL);
  int some[] = {SIGRTMIN, SIGRTMIN + 3, SIGRTMAX - 3, SIGRTMAX - 1, SIGRTMAX, SIGUSR1};
  for (int i = 0; i < 6; i++) dies_by(some[i]);
  return 0;
}
