// Signals that are pending for one thread: that thread alone sees them, through signalfd(2) with
// read(2), poll(2), select(2) and epoll_wait(2). They are handled although the queue of the user's
// signals is full. One of them is SIGPIPE, which a thread that blocks it sends itself.
#include "threads.h"

#include <poll.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static int fd, other_fd, ep;
static sigset_t blocked;

static void send_to(pthread_t id, int signal, int value) {
  ERR("pthread_sigqueue", pthread_sigqueue(id, signal, (union sigval){.sival_int = value}));
}

// --- waiting for a signal ---

static long told(const struct signalfd_siginfo* info) {
  return info->ssi_code == SI_QUEUE && info->ssi_pid == (uint32_t)getpid()
             ? (long)info->ssi_signo * 100 + info->ssi_int
             : -2;
}
static long read_one(void) {
  struct signalfd_siginfo info;
  memset(&info, 0, sizeof info);
  ssize_t n = read(fd, &info, sizeof info);
  return n == sizeof info ? told(&info) : n;
}
static void* reads(void* unused) {
  (void)unused;
  return (void*)read_one();
}
static void* polls(void* unused) {
  (void)unused;
  struct pollfd f = {fd, POLLIN, 0};
  return (void*)(poll(&f, 1, -1) == 1 && f.revents == POLLIN ? read_one() : -3);
}
static void* selects(void* unused) {
  (void)unused;
  fd_set r;
  FD_ZERO(&r);
  FD_SET(fd, &r);
  struct timeval t = {3600, 0};
  return (void*)(select(fd + 1, &r, NULL, NULL, &t) == 1 && FD_ISSET(fd, &r) ? read_one() : -3);
}
static void* waits_in_epoll(void* unused) {
  (void)unused;
  struct epoll_event e;
  return (void*)(epoll_wait(ep, &e, 1, -1) == 1 && e.data.u32 == 7 ? read_one() : -3);
}
static void waiting(void) {
  static const struct {
    const char* name;
    void* (*run)(void*);
  } ways[] = {
      {"read", reads}, {"poll", polls}, {"select", selects}, {"epoll_wait", waits_in_epoll}};
  for (int i = 0; i < 4; i++) {
    struct worker w, idle;
    printf("-- %s\n", ways[i].name);
    start(&idle, ways[i].run, NULL);
    await_waiting(&idle);
    start(&w, ways[i].run, NULL);
    await_waiting(&w);
    send_to(w.id, SIGUSR1, i);
    SAY("the thread that it was sent to gets it", (long)(intptr_t)end_of(&w));
    send_to(idle.id, SIGRTMIN + 1, 10 + i);
    SAY("the other has its own", (long)(intptr_t)end_of(&idle) - (SIGRTMIN + 1) * 100);
    start(&w, ways[i].run, NULL);
    await_waiting(&w);
    sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 20 + i});
    SAY("one for the process", (long)(intptr_t)end_of(&w));
  }
}

// --- signals that are pending already ---

static pthread_barrier_t sent;
static void* looks(void* unused) {
  struct pollfd f[2] = {{fd, POLLIN, 0}, {other_fd, POLLIN, 0}};
  struct epoll_event e;
  struct signalfd_siginfo info[4];
  pthread_barrier_wait(&sent);
  pthread_barrier_wait(&sent);
  SAY("poll", poll(f, 2, 0));
  SAY("  the descriptor for other signals is not ready", f[1].revents);
  SAY("epoll_wait", epoll_wait(ep, &e, 1, 0));
  SAY("a descriptor for other signals", read(other_fd, info, sizeof info));
  SAY("too little room", read(fd, info, sizeof *info - 1));
  struct iovec v[3] = {
      {info, 100}, {(char*)info + 100, 29}, {(char*)info + 129, 2 * sizeof *info - 129}};
  SAY("two of three, in pieces", readv(fd, v, 3));
  SAY("  the first", told(&info[0]));
  SAY("  and the second", told(&info[1]) - (SIGRTMIN + 1) * 100);
  sigset_t pending;
  sigpending(&pending);
  SAY("one is left", sigismember(&pending, SIGRTMIN + 1) && !sigismember(&pending, SIGUSR1));
  SAY("the third", read(fd, info, sizeof info));
  SAY("  which is the last", told(&info[0]) - (SIGRTMIN + 1) * 100);
  sigpending(&pending);
  SAY("none is left", !sigismember(&pending, SIGRTMIN + 1));
  SAY("poll", poll(f, 2, 0));
  MUST(fcntl(fd, F_SETFL, O_NONBLOCK));
  SAY("read", read(fd, info, sizeof info));
  MUST(fcntl(fd, F_SETFL, 0));
  return unused;
}
static void looking(void) {
  printf("-- pending signals\n");
  pthread_barrier_init(&sent, NULL, 2);
  struct worker w;
  start(&w, looks, NULL);
  pthread_barrier_wait(&sent);
  send_to(w.id, SIGRTMIN + 1, 1);
  send_to(w.id, SIGUSR1, 2);
  send_to(w.id, SIGRTMIN + 1, 3);
  struct pollfd f = {fd, POLLIN, 0};
  SAY("the sender sees nothing", poll(&f, 1, 0));
  pthread_barrier_wait(&sent);
  end_of(&w);
}

// --- a full queue ---

static int values[4];
static void note(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)context;
  values[handled++] = info->si_value.sival_int;
}
static void* unblocks(void* unused) {
  pthread_barrier_wait(&sent);
  pthread_barrier_wait(&sent);
  pthread_sigmask(SIG_UNBLOCK, &blocked, NULL);
  return unused;
}
static void full(void) {
  printf("-- the queue is full\n");
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_sigaction = note;
  a.sa_flags = SA_SIGINFO;
  MUST(sigaction(SIGUSR1, &a, NULL));
  MUST(sigaction(SIGRTMIN + 1, &a, NULL));
  struct worker w;
  start(&w, unblocks, NULL);
  pthread_barrier_wait(&sent);
  send_to(w.id, SIGRTMIN + 1, 41);
  send_to(w.id, SIGRTMIN + 1, 42);
  send_to(w.id, SIGUSR1, 43);
  struct rlimit before, none;
  MUST(getrlimit(RLIMIT_SIGPENDING, &before));
  none = (struct rlimit){0, before.rlim_max};
  MUST(setrlimit(RLIMIT_SIGPENDING, &none));
  pthread_barrier_wait(&sent);
  end_of(&w);
  MUST(setrlimit(RLIMIT_SIGPENDING, &before));
  SAY("all are handled", handled);
  printf("values %d\n", values[0] + values[1] + values[2]);
}

// --- a broken pipe ---

static int broken;
static sigset_t sigpipe;
static long is_pending(void) {
  sigset_t p;
  MUST(sigpending(&p));
  return sigismember(&p, SIGPIPE);
}
static void others_run(void) {
  pthread_barrier_wait(&sent);
  pthread_barrier_wait(&sent);
}
static void* writes_to_it(void* unused) {
  (void)unused;
  pthread_sigmask(SIG_BLOCK, &sigpipe, NULL);
  SAY("write", write(broken, "x", 1));
  others_run();
  SAY("  SIGPIPE is pending for the writer", is_pending());
  return NULL;
}
static void* prints_to_it(void* unused) {
  FILE* f = fdopen(dup(broken), "w");
  pthread_sigmask(SIG_BLOCK, &sigpipe, NULL);
  fputs("x", f);
  SAY("fflush", fflush(f));
  others_run();
  SAY("  SIGPIPE is pending for the writer", is_pending());
  SAY("  it takes it", sigwaitinfo(&sigpipe, NULL));
  SAY("  and it is pending no more", is_pending());
  return unused;
}
static pthread_t handles;
static void on_pipe(int signal) {
  (void)signal;
  handles = pthread_self();
}
static void* handles_it(void* unused) {
  pthread_sigmask(SIG_BLOCK, &sigpipe, NULL);
  SAY("write", write(broken, "x", 1));
  others_run();
  SAY("  no handler has run", handles != 0);
  pthread_sigmask(SIG_UNBLOCK, &sigpipe, NULL);
  SAY("  it runs when its thread lets it", handles == pthread_self());
  return unused;
}
static void pipes(void) {
  static void* (*const ways[])(void*) = {writes_to_it, prints_to_it, handles_it};
  puts("-- a broken pipe");
  int p[2];
  MUST(pipe(p));
  MUST(close(p[0]));
  broken = p[1];
  sigemptyset(&sigpipe);
  sigaddset(&sigpipe, SIGPIPE);
  for (int i = 0; i < 3; i++) {
    struct worker w;
    if (ways[i] == handles_it) signal(SIGPIPE, on_pipe);
    start(&w, ways[i], NULL);
    pthread_barrier_wait(&sent);
    poll(NULL, 0, 10);
    SAY("  not for others", is_pending());
    pthread_barrier_wait(&sent);
    end_of(&w);
  }
}

// --- before there are threads ---

static volatile pthread_t handled_in;
static void note_thread(int signal) {
  (void)signal;
  handled_in = pthread_self();
  handled++;
}
static volatile int look_no_more;
static void* lets_all_through(void* p) {
  sigset_t none;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, NULL);
  sem_post(p);
  while (!look_no_more) {}
  return NULL;
}
static int pending_here(int signal) {
  sigset_t s;
  sigpending(&s);
  return sigismember(&s, signal);
}
// A signal sent to the main thread alone stays there; one sent to the process may go to any thread.
static void before_threads(void) {
  printf("-- pending before the first thread\n");
  struct sigaction a;
  sigset_t all;
  siginfo_t info;
  struct timespec at_once = {0, 0};
  memset(&a, 0, sizeof a);
  a.sa_handler = note_thread;
  sigemptyset(&all);
  for (int s = 0; s < 3; s++)
    sigaddset(&all, SIGRTMIN + 5 + s), sigaction(SIGRTMIN + 5 + s, &a, NULL);
  sigaddset(&all, SIGUSR1), sigaction(SIGUSR1, &a, NULL);
  sigaddset(&all, SIGUSR2), sigaction(SIGUSR2, &a, NULL);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  raise(SIGUSR1);
  pthread_kill(pthread_self(), SIGRTMIN + 5);
  pthread_sigqueue(pthread_self(), SIGRTMIN + 6, (union sigval){.sival_int = 1});
  pthread_sigqueue(pthread_self(), SIGRTMIN + 6, (union sigval){.sival_int = 2});
  sigqueue(getpid(), SIGRTMIN + 6, (union sigval){.sival_int = 3});
  sigqueue(getpid(), SIGRTMIN + 7, (union sigval){.sival_int = 4});
  kill(getpid(), SIGUSR2);
  sem_t begun;
  sem_init(&begun, 0, 0);
  struct worker w;
  start(&w, lets_all_through, &begun);
  while (sem_wait(&begun)) {}
  while (handled < 3) sched_yield();
  SAY("the thread has those for the process", handled);
  SAY("  there", !!pthread_equal(handled_in, w.id));
  SAY("main's are pending",
      pending_here(SIGUSR1) + pending_here(SIGRTMIN + 5) + pending_here(SIGRTMIN + 6));
  SAY("  the others no more", pending_here(SIGRTMIN + 7) + pending_here(SIGUSR2));
  SAY("main has the first", sigtimedwait(&all, &info, &at_once) == SIGUSR1 &&
                                info.si_pid == getpid() && info.si_code == SI_USER);
  SAY("  the second", sigtimedwait(&all, &info, &at_once) == SIGRTMIN + 5);
  SAY("  a value",
      sigtimedwait(&all, &info, &at_once) == SIGRTMIN + 6 ? info.si_value.sival_int : 0);
  SAY("  the next",
      sigtimedwait(&all, &info, &at_once) == SIGRTMIN + 6 ? info.si_value.sival_int : 0);
  SAY("  and no more", sigtimedwait(&all, &info, &at_once));
  take_handled();
  pid_t me = getpid(), child = MUST(fork());
  if (child == 0) _exit((int)syscall(SYS_tgkill, me, me, SIGUSR1));
  MUST(waitpid(child, NULL, 0));
  while (!pending_here(SIGUSR1)) sched_yield();
  SAY("sent to main alone by another process, handled", handled);
  SAY("  main has it", sigtimedwait(&all, &info, &at_once) == SIGUSR1 && info.si_pid == child);
  look_no_more = 1;
  end_of(&w);
  pthread_sigmask(SIG_UNBLOCK, &all, NULL);
  a.sa_handler = SIG_DFL;
  for (int s = 0; s < 3; s++) sigaction(SIGRTMIN + 5 + s, &a, NULL);
  sigaction(SIGUSR1, &a, NULL), sigaction(SIGUSR2, &a, NULL);
  take_handled();
}

// In separate processes, since each has only one first thread.
static void before_threads_each(void) {
  for (int forbidden = 0; forbidden < 2; forbidden++) {
    fflush(stdout);
    pid_t child = MUST(fork());
    if (child == 0) {
      limit();
      struct rlimit none = {0, 0};
      if (forbidden) MUST(setrlimit(RLIMIT_NOFILE, &none));
      before_threads();
      exit(0);
    }
    int status;
    MUST(waitpid(child, &status, 0));
    if (status) printf("ended with %x\n", status);
  }
}

// --- ignored while it is pending ---

static void* ignores(void* p) {
  sigset_t s, now;
  sigemptyset(&s);
  sigaddset(&s, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  on_signal(SIGUSR1, 0);
  raise(SIGUSR1);
  pthread_kill(pthread_self(), SIGUSR1);
  signal(SIGUSR1, SIG_IGN);
  pthread_sigmask(SIG_UNBLOCK, &s, NULL);
  pthread_sigmask(SIG_SETMASK, NULL, &now);
  int blocked_now = 0;
  for (int i = 1; i < NSIG; i++) blocked_now += sigismember(&now, i) == 1;
  SAY("ignored while it is pending: handled", take_handled());
  SAY("  and the blocked signals then", blocked_now);
  signal(SIGUSR1, SIG_DFL);
  return p;
}
static void ignored(void) {
  printf("-- ignored while it is pending\n");
  sigset_t none, before;
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &none, &before);
  struct worker w;
  start(&w, ignores, NULL);
  end_of(&w);
  ignores(NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

// --- threads that end with signals pending ---

enum { many_threads = 200, many_signals = 100 };
static void* ends_with_pending(void* unused) {
  sigset_t s;
  long queued = 0;
  sigemptyset(&s);
  sigaddset(&s, SIGRTMIN + 2);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  for (int i = 0; i < many_signals; i++)
    queued += pthread_sigqueue(pthread_self(), SIGRTMIN + 2, (union sigval){.sival_int = i}) == 0;
  (void)unused;
  return (void*)queued;
}
static void ended(void) {
  printf("-- threads that end with signals pending\n");
  long queued = 0;
  for (int i = 0; i < many_threads; i++) {
    struct worker w;
    start(&w, ends_with_pending, NULL);
    queued += (long)end_of(&w);
  }
  SAY("their room is free again: queued", queued);
}

int main(void) {
  before_threads_each();
  ignored();
  ended();
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  sigaddset(&blocked, SIGRTMIN + 1);
  pthread_sigmask(SIG_BLOCK, &blocked, NULL);
  fd = MUST(signalfd(-1, &blocked, SFD_CLOEXEC));
  sigset_t other;
  sigemptyset(&other);
  sigaddset(&other, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &other, NULL);
  other_fd = MUST(signalfd(-1, &other, SFD_CLOEXEC | SFD_NONBLOCK));
  ep = MUST(epoll_create1(EPOLL_CLOEXEC));
  struct epoll_event e = {EPOLLIN, {.u32 = 7}};
  MUST(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
  waiting();
  looking();
  full();
  pipes();
  return 0;
}
