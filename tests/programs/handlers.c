// Signal handlers: when they run, on which stack, with which mask and information; calls made in
// them; leaving them by siglongjmp.
#include "cases.h"

#include <poll.h>
#include <setjmp.h>
#include <sys/socket.h>
#include <sys/syscall.h>

static const struct timespec instant = {0, 1000000};
static const struct timespec hour = {3600, 0};
static int pipe_ends[2];

static void signal_me(int signal) {
  if (peer()) {
    await_blocked();
    kill(getppid(), signal);
    leave();
  }
}

static void install(int signal, void (*f)(int, siginfo_t*, void*), int flags, int also_masked) {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_sigaction = f;
  a.sa_flags = flags | SA_SIGINFO;
  if (also_masked) sigaddset(&a.sa_mask, also_masked);
  MUST(sigaction(signal, &a, NULL));
}

// --- the information that a handler gets ---

static char seen[400];
static pid_t expected_sender;
static char alternate[1 << 16];

static void observe(int signal, siginfo_t* info, void* context) {
  sigset_t mask;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  int here;
  int on_alternate = (char*)&here >= alternate && (char*)&here < alternate + sizeof alternate;
  snprintf(seen, sizeof seen,
           "signal %d code %d value %d sender %d masks %d%d%d stack %d context %d", signal,
           info->si_code, info->si_code == SI_QUEUE ? info->si_value.sival_int : 0,
           info->si_pid == expected_sender, sigismember(&mask, signal), sigismember(&mask, SIGUSR2),
           sigismember(&mask, SIGTERM), on_alternate, context != NULL);
  handled++;
}

static void say_seen(const char* sentence) {
  printf("%s: %s\n", sentence, seen);
  seen[0] = 0;
}

static void observations(void) {
  stack_t s = {.ss_sp = alternate, .ss_size = sizeof alternate};
  MUST(sigaltstack(&s, NULL));
  static const struct {
    const char* name;
    int flags, also;
  } kinds[] = {{"plain", 0, 0},
               {"SA_NODEFER", SA_NODEFER, 0},
               {"SIGUSR2 masked", 0, SIGUSR2},
               {"SA_ONSTACK", SA_ONSTACK, 0},
               {"SA_ONSTACK|SA_NODEFER|SA_RESTART", SA_ONSTACK | SA_NODEFER | SA_RESTART, SIGUSR2}};
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    printf("-- %s\n", kinds[i].name);
    install(SIGUSR1, observe, kinds[i].flags, kinds[i].also);
    expected_sender = getpid();
    raise(SIGUSR1);
    say_seen("raise");
    kill(getpid(), SIGUSR1);
    say_seen("kill");
    sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 17});
    say_seen("sigqueue");
    if (peer()) {
      await_blocked();
      sigqueue(getppid(), SIGUSR1, (union sigval){.sival_int = 18});
      leave();
    }
    expected_sender = peer_pid;
    SAY("nanosleep", nanosleep(&hour, NULL));
    say_seen("sigqueue by a peer, while asleep");
    peer_ends();
  }
  install(SIGCHLD, observe, SA_RESTART, 0);
  if (peer()) {
    await_blocked();
    leave();
  }
  expected_sender = peer_pid;
  SAY("a child ends during nanosleep", nanosleep(&hour, NULL));
  say_seen("SIGCHLD");
  peer_ends();
  signal(SIGCHLD, SIG_DFL);

  printf("-- SA_RESETHAND\n");
  install(SIGUSR1, observe, (int)SA_RESETHAND, 0);
  signal_me(SIGUSR1);
  SAY("nanosleep", nanosleep(&hour, NULL));
  struct sigaction a;
  MUST(sigaction(SIGUSR1, NULL, &a));
  SAY("then the action is the default one", a.sa_handler == SIG_DFL);
  SAY("  with the flags that were given", a.sa_flags & ~0x04000000);
  peer_ends();
  fflush(stdout);
  pid_t child = MUST(fork());
  if (child == 0) {
    raise(SIGUSR1);
    _exit(0);
  }
  int status;
  MUST(waitpid(child, &status, 0));
  SAY("and the next one ends the process", WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
  s.ss_flags = SS_DISABLE;
  MUST(sigaltstack(&s, NULL));
}

// A run-time that makes its system calls itself, as Go's does, sets its alternate stack unseen by
// the C library.
static void unseen_stack(void) {
  stack_t s = {.ss_sp = alternate, .ss_size = sizeof alternate};
#ifdef __x86_64__
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "0"((long)SYS_sigaltstack), "D"(&s), "S"(0L)
                   : "rcx", "r11", "memory");
#else
  long result = syscall(SYS_sigaltstack, &s, NULL);
#endif
  SAY("a stack set by a bare system call", result);
  install(SIGUSR1, observe, SA_ONSTACK, 0);
  expected_sender = getpid();
  raise(SIGUSR1);
  say_seen("raise");
  struct sigaction a;
  MUST(sigaction(SIGUSR1, NULL, &a));
  SAY("the flags that were given", a.sa_flags & ~0x04000000);
  s.ss_flags = SS_DISABLE;
  MUST(sigaltstack(&s, NULL));
}

// --- nesting, order ---

static char order[64];
static void note(char c) {
  size_t n = strlen(order);
  if (n < sizeof order - 1) order[n] = c;
}
static void outer(int s, siginfo_t* i, void* c) {
  (void)s, (void)i, (void)c;
  note('<');
  raise(SIGUSR2);
  note('>');
}
static void inner(int s, siginfo_t* i, void* c) {
  (void)s, (void)i, (void)c;
  note('*');
}
static int raises;
static void recursive(int s, siginfo_t* i, void* c) {
  (void)i, (void)c;
  note('(');
  if (raises-- > 0) raise(s);
  note(')');
}
static void say_order(const char* sentence) {
  printf("%s: %s\n", sentence, order);
  memset(order, 0, sizeof order);
}

static void nesting(void) {
  install(SIGUSR1, outer, 0, 0);
  install(SIGUSR2, inner, 0, 0);
  raise(SIGUSR1);
  say_order("a signal raised in a handler");
  signal_me(SIGUSR1);
  SAY("the same in a sleep", nanosleep(&hour, NULL));
  say_order("  nests");
  peer_ends();
  install(SIGUSR1, outer, 0, SIGUSR2);
  raise(SIGUSR1);
  say_order("a signal that the handler masks waits");
  signal_me(SIGUSR1);
  SAY("the same in a sleep", nanosleep(&hour, NULL));
  say_order("  waits");
  peer_ends();
  install(SIGUSR1, recursive, SA_NODEFER, 0);
  raises = 4;
  raise(SIGUSR1);
  say_order("SA_NODEFER lets a handler nest in itself");
  raises = 4;
  signal_me(SIGUSR1);
  SAY("the same in a sleep", nanosleep(&hour, NULL));
  say_order("  nests");
  peer_ends();
  install(SIGUSR1, recursive, 0, 0);
  raises = 4;
  raise(SIGUSR1);
  say_order("without it the next one comes after");

  // Several at once.
  sigset_t set, before;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN);
  sigaddset(&set, SIGUSR2);
  on_signal(SIGRTMIN, 0);
  on_signal(SIGUSR2, 0);
  sigprocmask(SIG_BLOCK, &set, &before);
  for (int i = 0; i < 3; i++) sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i});
  for (int i = 0; i < 3; i++) kill(getpid(), SIGUSR2);
  take_handled();
  sigprocmask(SIG_SETMASK, &before, NULL);
  SAY("real-time signals queue, others do not", take_handled());
  if (peer()) {
    await_blocked();
    for (int i = 0; i < 10; i++) sigqueue(getppid(), SIGRTMIN, (union sigval){.sival_int = i});
    leave();
  }
  // Sleep only briefly: the last signal may come between the check and the sleep.
  while (handled < 10) nanosleep(&instant, NULL);
  SAY("ten real-time signals in sleeps", take_handled());
  peer_ends();
}

// --- calls in handlers ---

static long handler_result[8];
static void busy(int s, siginfo_t* i, void* c) {
  (void)s, (void)i, (void)c;
  int error = errno, p[2];
  char b[8];
  handler_result[0] = pipe(p);
  handler_result[1] = write(p[1], "abc", 3);
  handler_result[2] = read(p[0], b, sizeof b);
  struct pollfd f = {.fd = p[0], .events = POLLIN};
  handler_result[3] = poll(&f, 1, 1);
  handler_result[4] = nanosleep(&instant, NULL);
  pid_t child = fork();
  if (child == 0) {
    char byte;
    _exit(write(p[1], "x", 1) == 1 && read(p[0], &byte, 1) == 1 && nanosleep(&instant, NULL) == 0
              ? 5
              : 6);
  }
  int status;
  handler_result[5] = waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : -1;
  handler_result[6] = close(p[0]) + close(p[1]);
  handled++;
  errno = error;
}
static void say_results(const char* sentence) {
  printf("%s:", sentence);
  for (int i = 0; i < 7; i++) printf(" %ld", handler_result[i]);
  printf("\n");
  memset(handler_result, 0, sizeof handler_result);
}

static void calls(void) {
  char b[8];
  install(SIGUSR1, busy, SA_RESTART, 0);
  raise(SIGUSR1);
  say_results("calls in a handler");
  signal_me(SIGUSR1);
  SAY("nanosleep", nanosleep(&hour, NULL));
  say_results("calls in a handler that interrupts a sleep");
  peer_ends();
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    await_blocked();
    write(pipe_ends[1], "q", 1);
    leave();
  }
  SAY("a read goes on after such a handler", read(pipe_ends[0], b, sizeof b));
  say_results("calls in a handler that interrupts a read");
  peer_ends();
}

// --- leaving by siglongjmp ---

static sigjmp_buf back;
static volatile int jumps;
static void jump(int s) {
  (void)s;
  jumps++;
  siglongjmp(back, 1);
}

static char big_frame_result;
static __attribute__((noinline)) void deep(int levels) {
  volatile char frame[512];
  memset((char*)frame, levels, sizeof frame);
  if (levels) deep(levels - 1);
  else SAY("  a sleep deeper in the stack", nanosleep(&instant, NULL));
  big_frame_result = frame[7];
}

// In each case a jump leaves the call, and everything works afterwards.
#define SAY_LEFT(sentence, call)                                                                 \
  do {                                                                                           \
    jumps = 0;                                                                                   \
    signal_me(SIGUSR1);                                                                          \
    if (sigsetjmp(back, 1) == 0) {                                                               \
      SAY("NOT LEFT: " sentence, call);                                                          \
    }                                                                                            \
    SAY(sentence ": left", jumps);                                                               \
    peer_ends();                                                                                 \
    SAY("  a sleep", nanosleep(&instant, NULL));                                                 \
    struct pollfd f_ = {.fd = pipe_ends[0], .events = POLLIN};                                   \
    SAY("  a poll", poll(&f_, 1, 1));                                                            \
    SAY("  a write", write(pipe_ends[1], "w", 1));                                               \
    char byte_;                                                                                  \
    SAY("  a read", read(pipe_ends[0], &byte_, 1));                                              \
    sigset_t mask_;                                                                              \
    sigprocmask(SIG_BLOCK, NULL, &mask_);                                                        \
    SAY("  the mask is as before", sigismember(&mask_, SIGUSR1) + sigismember(&mask_, SIGUSR2)); \
    deep(20);                                                                                    \
  } while (0)

static void leaving(int flags) {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_handler = jump;
  a.sa_flags = flags;
  MUST(sigaction(SIGUSR1, &a, NULL));
  char b[8];
  int sockets[2], status;
  sigset_t mask;
  sigprocmask(SIG_BLOCK, NULL, &mask);
  MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
  struct pollfd fds[20];
  for (int i = 0; i < 20; i++)
    fds[i] = (struct pollfd){.fd = i % 2 ? pipe_ends[0] : sockets[0], .events = POLLIN};
  fd_set set;
  FD_ZERO(&set);
  FD_SET(pipe_ends[0], &set);
  SAY_LEFT("nanosleep", nanosleep(&hour, NULL));
  SAY_LEFT("sleep", sleep(3600));
  SAY_LEFT("a read of a pipe", read(pipe_ends[0], b, 1));
  SAY_LEFT("recv", recv(sockets[0], b, 1, 0));
  SAY_LEFT("poll", poll(fds, 1, -1));
  SAY_LEFT("poll for many", poll(fds, 20, 3600000));
  SAY_LEFT("ppoll with a mask", ppoll(fds, 20, &hour, &mask));
  SAY_LEFT("select", select(pipe_ends[0] + 1, &set, NULL, NULL, NULL));
  SAY_LEFT("pause", pause());
  sigaddset(&mask, SIGUSR2);
  SAY_LEFT("sigsuspend", sigsuspend(&mask));
  fflush(stdout);
  pid_t child = MUST(fork());
  if (child == 0) {
    pause();
    _exit(3);
  }
  MUST(setpgid(child, child));
  SAY_LEFT("waitpid", waitpid(child, &status, 0));
  SAY_LEFT("waitpid for a group", waitpid(-child, &status, 0));
  kill(child, SIGKILL);
  SAY("the child is still there", waitpid(child, &status, 0) == child && WIFSIGNALED(status));
  close(sockets[0]);
  close(sockets[1]);

  for (volatile int i = 0; i < 200; i++) {
    struct itimerval soon = {{0, 0}, {0, 200}};
    if (sigsetjmp(back, 1) == 0) {
      if (i == 0) MUST(sigaction(SIGALRM, &a, NULL)), jumps = 0;
      setitimer(ITIMER_REAL, &soon, NULL);
      if (i % 3 == 0) nanosleep(&hour, NULL);
      else if (i % 3 == 1) read(pipe_ends[0], b, 1);
      else pause();
    }
  }
  SAY("200 sleeps, reads and pauses left by SIGALRM", jumps);
  limit();
}

int main(void) {
  MUST(pipe(pipe_ends));
  unseen_stack();
  observations();
  nesting();
  calls();
  printf("-- on the stack\n");
  leaving(0);
  printf("-- on an alternate stack\n");
  stack_t s = {.ss_sp = alternate, .ss_size = sizeof alternate};
  MUST(sigaltstack(&s, NULL));
  leaving(SA_ONSTACK | SA_RESTART);
}
