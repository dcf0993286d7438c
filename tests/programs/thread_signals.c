// Signals of threads: masks, pthread_kill(3), pthread_sigqueue(3), raise(3), sigpending(2),
// sigwait(3) by several threads, sigsuspend(2), ppoll(2), alternate stacks; which thread handles a
// signal for the process.
#include "threads.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"

#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

static const struct timespec none = {0, 0}, soon = {0, 2000000}, hour = {3600, 0};

static sigset_t set_of(int a, int b) {
  sigset_t s;
  sigemptyset(&s);
  if (a) sigaddset(&s, a);
  if (b) sigaddset(&s, b);
  return s;
}
static int blocks_signal(int signal) {
  sigset_t s;
  pthread_sigmask(SIG_BLOCK, NULL, &s);
  return sigismember(&s, signal);
}
static int is_pending(int signal) {
  sigset_t s;
  sigpending(&s);
  return sigismember(&s, signal);
}

// Which thread handled a signal, how often, and which signal.
static pthread_t handler_thread;
static siginfo_t handler_info;
static volatile sig_atomic_t in_handler_blocks_usr1, in_handler_blocks_usr2;
static void note(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)context;
  sigset_t s;
  pthread_sigmask(SIG_BLOCK, NULL, &s);
  in_handler_blocks_usr1 = sigismember(&s, SIGUSR1);
  in_handler_blocks_usr2 = sigismember(&s, SIGUSR2);
  handler_thread = pthread_self();
  handler_info = *info;
  handled++;
}
static void install_note(int signal, int flags, int also) {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_sigaction = note;
  a.sa_flags = SA_SIGINFO | flags;
  if (also) sigaddset(&a.sa_mask, also);
  MUST(sigaction(signal, &a, NULL));
}

// A thread that runs one function at a time on request.
struct servant {
  pthread_t id;
  sem_t go, done;
  void* (*what)(void*);
  void* result;
};
static void* work(void* p) {
  struct servant* w = p;
  for (;;) {
    while (sem_wait(&w->go)) {}
    if (!w->what) return NULL;
    w->result = w->what(NULL);
    sem_post(&w->done);
  }
}
static void begin(struct servant* w) {
  sem_init(&w->go, 0, 0);
  sem_init(&w->done, 0, 0);
  if (pthread_create(&w->id, NULL, work, w)) exit(97);
}
static void tell(struct servant* w, void* (*what)(void*)) {
  w->what = what;
  sem_post(&w->go);
}
static long finish(struct servant* w) {
  while (sem_wait(&w->done)) {}
  return (long)w->result;
}
static long do_in(struct servant* w, void* (*what)(void*)) {
  tell(w, what);
  return finish(w);
}
static void end(struct servant* w) {
  tell(w, NULL);
  pthread_join(w->id, NULL);
}

static void* say_usr1_blocked(void* p) { return (void*)(long)blocks_signal(SIGUSR1); }
static void* block_usr1(void* p) {
  sigset_t s = set_of(SIGUSR1, 0);
  return (void*)(long)pthread_sigmask(SIG_BLOCK, &s, NULL);
}
static void* unblock_usr1(void* p) {
  sigset_t s = set_of(SIGUSR1, 0);
  return (void*)(long)pthread_sigmask(SIG_UNBLOCK, &s, NULL);
}
static void* usr1_pending(void* p) { return (void*)(long)is_pending(SIGUSR1); }

static void masks(void) {
  printf("-- masks\n");
  struct servant a, b;
  sigset_t s = set_of(SIGUSR1, SIGUSR2), old, now;
  SAY("block", pthread_sigmask(SIG_BLOCK, &s, &old));
  begin(&a);
  SAY("unblock", pthread_sigmask(SIG_SETMASK, &old, &now));
  SAY("  what was blocked", sigismember(&now, SIGUSR1) + sigismember(&now, SIGUSR2));
  begin(&b);
  SAY("a new thread has its creator's mask", do_in(&a, say_usr1_blocked));
  SAY("another, created later", do_in(&b, say_usr1_blocked));
  SAY("a thread unblocks", do_in(&a, unblock_usr1));
  SAY("  for itself", do_in(&a, say_usr1_blocked));
  SAY("a thread blocks", do_in(&b, block_usr1));
  SAY("  for itself", do_in(&b, say_usr1_blocked));
  SAY("  and not for others", do_in(&a, say_usr1_blocked));
  SAY("  nor for main", blocks_signal(SIGUSR1));
  SAY("a bad how", pthread_sigmask(99, &s, NULL));
  SAY("a bad how for a query", pthread_sigmask(99, NULL, &now));
  SAY("a bad how for sigprocmask", sigprocmask(99, &s, NULL));
  sigfillset(&s);
  pthread_sigmask(SIG_SETMASK, &s, &old);
  pthread_sigmask(SIG_SETMASK, &old, &now);
  int blocked = 0;
  for (int i = 1; i <= 64; i++) blocked += sigismember(&now, i) == 1;
  SAY("all can be blocked but a few", blocked);
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  s = set_of(SIGUSR2, 0);
  SAY("a mask in the attributes", pthread_attr_setsigmask_np(&attr, &s));
  struct servant c;
  sem_init(&c.go, 0, 0), sem_init(&c.done, 0, 0);
  pthread_create(&c.id, &attr, work, &c);
  do_in(&c, block_usr1);
  sem_t x;
  sem_init(&x, 0, 0);
  SAY("is the thread's", do_in(&c, say_usr1_blocked));
  end(&a), end(&b), end(&c);
}

static void* kill_self(void* p) {
  pthread_kill(pthread_self(), SIGUSR1);
  return (void*)(long)(take_handled() == 1 && pthread_equal(handler_thread, pthread_self()));
}
static void* raise_self(void* p) {
  raise(SIGUSR1);
  return (void*)(long)(take_handled() == 1 && pthread_equal(handler_thread, pthread_self()));
}
static void* sleep_hour(void* p) {
  errno = 0;
  long r = nanosleep(&hour, NULL);
  return (void*)(r == -1 && errno == EINTR ? 1L : 0L);
}
static int fds[2];
static void* read_pipe(void* p) {
  char c;
  long r = read(fds[0], &c, 1);
  return (void*)(r < 0 ? -(long)errno : r);
}
static void* poll_pipe(void* p) {
  struct pollfd f = {.fd = fds[0], .events = POLLIN};
  long r = poll(&f, 1, -1);
  return (void*)(r < 0 ? -(long)errno : r);
}
static void* do_pause(void* p) {
  long r = pause();
  return (void*)(r < 0 ? -(long)errno : r);
}
static sem_t a_sem;
static void* sem_waits(void* p) {
  long r = sem_wait(&a_sem);
  return (void*)(r < 0 ? -(long)errno : r);
}
static pthread_mutex_t a_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t a_cond = PTHREAD_COND_INITIALIZER;
static void* locks_mutex(void* p) {
  long r = pthread_mutex_lock(&a_mutex);
  pthread_mutex_unlock(&a_mutex);
  return (void*)r;
}
static volatile int a_flag;
static void* waits_cond(void* p) {
  pthread_mutex_lock(&a_mutex);
  while (!a_flag) pthread_cond_wait(&a_cond, &a_mutex);
  pthread_mutex_unlock(&a_mutex);
  return (void*)(long)handled;
}

// Makes the call in a thread, then sends it a signal, whose handler runs there.
#define SAY_KILLED(sentence, function, flags, rescue)               \
  do {                                                              \
    install_note(SIGUSR1, flags, 0);                                \
    take_handled();                                                 \
    tell(&w, function);                                             \
    await_all_waiting();                                            \
    SAY(sentence ", killed", pthread_kill(w.id, SIGUSR1));          \
    await_all_waiting();                                            \
    rescue;                                                         \
    SAY("  ended with", finish(&w));                                \
    SAY("  handlers", take_handled());                              \
    SAY("  on that thread", !!pthread_equal(handler_thread, w.id)); \
  } while (0)

static void kills(void) {
  printf("-- pthread_kill\n");
  struct servant w;
  begin(&w);
  MUST(pipe(fds));
  sem_init(&a_sem, 0, 0);
  install_note(SIGUSR1, 0, 0);
  SAY("to oneself, in a thread", do_in(&w, kill_self));
  SAY("raise in a thread", do_in(&w, raise_self));
  pthread_kill(pthread_self(), SIGUSR1);
  SAY("to oneself, in main", take_handled() == 1 && pthread_equal(handler_thread, pthread_self()));
  SAY("signal 0", pthread_kill(w.id, 0));
  SAY("a bad signal", pthread_kill(w.id, 65));
  SAY("a negative signal", pthread_kill(w.id, -1));
  SAY("the C library's own", pthread_kill(w.id, 32));
  SAY("raise of a bad signal", raise(65));
  SAY("raise of 0", raise(0));
  SAY_KILLED("nanosleep", sleep_hour, SA_RESTART, (void)0);
  printf("  code %d sender %d\n", handler_info.si_code == SI_TKILL,
         handler_info.si_pid == getpid());
  SAY_KILLED("read", read_pipe, 0, (void)0);
  SAY_KILLED("read and SA_RESTART", read_pipe, SA_RESTART, write(fds[1], "x", 1));
  SAY_KILLED("poll and SA_RESTART", poll_pipe, SA_RESTART, (void)0);
  SAY_KILLED("pause", do_pause, SA_RESTART, (void)0);
  SAY_KILLED("sem_wait", sem_waits, 0, (void)0);
  SAY_KILLED("sem_wait and SA_RESTART", sem_waits, SA_RESTART, sem_post(&a_sem));
  pthread_mutex_lock(&a_mutex);
  SAY_KILLED("pthread_mutex_lock", locks_mutex, 0, pthread_mutex_unlock(&a_mutex));
  SAY_KILLED("pthread_cond_wait", waits_cond, 0,
             (pthread_mutex_lock(&a_mutex), a_flag = 1, pthread_cond_signal(&a_cond),
              pthread_mutex_unlock(&a_mutex)));

  // The main thread's calls are not interrupted by another thread's handler.
  tell(&w, sleep_hour);
  await_all_waiting();
  pthread_kill(w.id, SIGUSR1);
  SAY("main's sleep goes on", nanosleep(&soon, NULL));
  finish(&w);
  take_handled();

  // A blocked signal is pending for that thread only.
  do_in(&w, block_usr1);
  SAY("while it is blocked", pthread_kill(w.id, SIGUSR1));
  SAY("twice", pthread_kill(w.id, SIGUSR1));
  SAY("  pending there", do_in(&w, usr1_pending));
  SAY("  not here", is_pending(SIGUSR1));
  SAY("  not handled", take_handled());
  do_in(&w, unblock_usr1);
  SAY("unblocked, handled once", take_handled());
  SAY("  there", !!pthread_equal(handler_thread, w.id));
  SAY("  no longer pending", do_in(&w, usr1_pending));

  // An ignored signal.
  signal(SIGUSR2, SIG_IGN);
  tell(&w, read_pipe);
  await_all_waiting();
  SAY("an ignored signal", pthread_kill(w.id, SIGUSR2));
  SAY("one ignored by default", pthread_kill(w.id, SIGCHLD));
  await_all_waiting();
  write(fds[1], "y", 1);
  SAY("  interrupts nothing", finish(&w));

  // A signal queued with a value.
  install_note(SIGRTMIN, 0, 0);
  sigset_t s = set_of(SIGRTMIN, 0);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  struct servant q;
  begin(&q);
  pthread_sigmask(SIG_UNBLOCK, &s, NULL);
  for (int i = 0; i < 3; i++) pthread_sigqueue(q.id, SIGRTMIN, (union sigval){.sival_int = 10 + i});
  SAY("queued while blocked", take_handled());
  SAY("pthread_sigqueue", pthread_sigqueue(w.id, SIGRTMIN, (union sigval){.sival_int = 7}));
  do_in(&w, say_usr1_blocked);
  printf("  value %d code %d\n", handler_info.si_value.sival_int, handler_info.si_code == SI_QUEUE);
  SAY("  handled", take_handled());
  SAY("  there", !!pthread_equal(handler_thread, w.id));
  SAY("a bad signal", pthread_sigqueue(w.id, 65, (union sigval){.sival_int = 7}));
  end(&q);
  end(&w);
  // A thread that has ended and not been joined.
  begin(&w);
  tell(&w, NULL);
  await_all_waiting();
  SAY("an ended thread", pthread_kill(w.id, SIGUSR1));
  SAY("  signal 0", pthread_kill(w.id, 0));
  pthread_join(w.id, NULL);
  close(fds[0]), close(fds[1]);
}

static void* wait_rt(void* p) {
  sigset_t s = set_of(SIGRTMIN + 1, SIGUSR1);
  siginfo_t info;
  int r;  // Linux wakes both of two waiters, and one of them has no signal
  do r = sigwaitinfo(&s, &info);
  while (r < 0 && errno == EINTR && !handled);
  return (void*)(r < 0 ? -(long)errno : r == SIGUSR1 ? -1000L : (long)info.si_value.sival_int);
}
static void* wait_some(void* p) {
  sigset_t s = set_of(SIGRTMIN + 1, SIGUSR1);
  int sig;
  int r = sigwait(&s, &sig);
  return (void*)(long)(r ? -r : sig == SIGUSR1 ? 1 : 2);
}

static void waits(void) {
  printf("-- sigwait\n");
  sigset_t s = set_of(SIGRTMIN + 1, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  struct servant a, b;
  begin(&a), begin(&b);
  install_note(SIGUSR1, 0, 0);
  tell(&a, wait_some);
  await_all_waiting();
  kill(getpid(), SIGUSR1);
  SAY("one for the process, blocked by all", finish(&a));
  tell(&a, wait_some);
  await_all_waiting();
  SAY("one for the thread", pthread_kill(a.id, SIGUSR1));
  SAY("  comes", finish(&a));
  SAY("  is not handled", take_handled());
  pthread_kill(b.id, SIGUSR1);
  kill(getpid(), SIGRTMIN + 1);
  SAY("one pending for the process", do_in(&a, wait_some));
  SAY("one pending for the thread", do_in(&b, wait_some));
  tell(&a, wait_rt), tell(&b, wait_rt);
  await_all_waiting();
  sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 1});
  sigqueue(getpid(), SIGRTMIN + 1, (union sigval){.sival_int = 2});
  SAY("two threads get one each", finish(&a) + finish(&b));
  tell(&a, wait_rt), tell(&b, wait_rt);
  await_all_waiting();
  pthread_sigqueue(b.id, SIGRTMIN + 1, (union sigval){.sival_int = 4});
  SAY("one sent to the second thread", finish(&b));
  pthread_sigqueue(a.id, SIGRTMIN + 1, (union sigval){.sival_int = 3});
  SAY("one sent to the first thread", finish(&a));
  siginfo_t info;
  SAY("nothing is left", sigtimedwait(&s, &info, &none));
  install_note(SIGUSR2, 0, 0);
  tell(&a, wait_rt);
  await_all_waiting();
  pthread_kill(a.id, SIGUSR2);
  SAY("another signal's handler ends sigwaitinfo", finish(&a));
  tell(&a, wait_some);
  await_all_waiting();
  pthread_kill(a.id, SIGUSR2);
  await_all_waiting();
  pthread_kill(a.id, SIGUSR1);
  SAY("but not sigwait", finish(&a));
  SAY("  handlers", take_handled());
  if (peer()) {
    await_blocked();
    sigqueue(getppid(), SIGRTMIN + 1, (union sigval){.sival_int = 44});
    leave();
  }
  tell(&a, wait_rt);
  SAY("from another process", finish(&a));
  peer_ends();
  // With a signalfd.
  int fd = (int)MUST(signalfd(-1, &s, SFD_CLOEXEC));
  struct signalfd_siginfo si;
  fds[0] = fd;
  tell(&a, poll_pipe);
  await_all_waiting();
  kill(getpid(), SIGUSR1);
  SAY("poll of a signalfd in a thread", finish(&a));
  SAY("  read", read(fd, &si, sizeof si));
  SAY("  signal", si.ssi_signo);
  close(fd);
  end(&a), end(&b);
  pthread_sigmask(SIG_UNBLOCK, &s, NULL);
}

static void* count_until_handled(void* p) {
  while (!handled) nanosleep(&soon, NULL);
  return (void*)(long)!!pthread_equal(handler_thread, pthread_self());
}
static volatile int spin;
static void* spins(void* p) {
  while (spin) {}
  return p;
}
static void* kill_process(void* p) {
  await_all_waiting();
  kill(getpid(), SIGUSR1);
  while (!handled) sched_yield();
  return (void*)(long)!!pthread_equal(handler_thread, pthread_self());
}

static void for_process(void) {
  printf("-- for the process\n");
  pthread_t self = pthread_self();
  struct servant w, other;
  sigset_t s = set_of(SIGUSR1, 0), before;
  begin(&w);
  install_note(SIGUSR1, 0, SIGUSR2);
  tell(&w, kill_process);
  SAY("main's sleep ends", nanosleep(&hour, NULL));
  SAY("  handled by main", !!pthread_equal(handler_thread, self));
  SAY("  not by the thread", finish(&w));
  SAY("  once", take_handled());
  SAY("  with the mask", in_handler_blocks_usr1 * 10 + in_handler_blocks_usr2);
  SAY("  restored", blocks_signal(SIGUSR1) + blocks_signal(SIGUSR2));
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  SAY("from another process, main's sleep ends", nanosleep(&hour, NULL));
  SAY("  handled by main", !!pthread_equal(handler_thread, self));
  take_handled();
  peer_ends();
  spin = 1;
  tell(&w, spins);
  // Another process cannot see that the main thread sleeps while another thread is busy, so it
  // repeats the signal until main has been woken.
  int woken[2];
  MUST(pipe(woken));
  if (peer()) {
    struct pollfd f = {.fd = woken[0], .events = POLLIN};
    do kill(getppid(), SIGUSR1);
    while (poll(&f, 1, 20) == 0);
    leave();
  }
  SAY("while a thread is busy", nanosleep(&hour, NULL));
  while (write(woken[1], "x", 1) != 1) {}
  SAY("  handled by main", !!pthread_equal(handler_thread, self));
  peer_ends();
  close(woken[0]), close(woken[1]);
  spin = 0;
  finish(&w);
  take_handled();

  pthread_sigmask(SIG_BLOCK, &s, &before);
  tell(&w, sleep_hour);
  await_all_waiting();
  kill(getpid(), SIGUSR1);
  SAY("main blocks it: a thread's sleep ends", finish(&w));
  SAY("  handled by the thread", !!pthread_equal(handler_thread, w.id));
  SAY("  not pending", is_pending(SIGUSR1));
  take_handled();
  begin(&other);  // blocks the signal as well
  do_in(&w, block_usr1);
  kill(getpid(), SIGUSR1);
  SAY("all block it: pending", is_pending(SIGUSR1));
  SAY("  in a thread too", do_in(&w, usr1_pending));
  tell(&w, sleep_hour);
  await_all_waiting();
  SAY("  not handled", take_handled());
  do_in(&other, unblock_usr1);
  SAY("until one unblocks it", take_handled());
  SAY("  which handles it", !!pthread_equal(handler_thread, other.id));
  pthread_kill(other.id, 0);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  install_note(SIGUSR2, 0, 0);
  pthread_kill(w.id, SIGUSR2);
  SAY("the sleeper", finish(&w));
  take_handled();
  // With an alarm and an interval timer.
  install_note(SIGALRM, 0, 0);
  struct itimerval t = {{0, 10000}, {0, 10000}};  // again: the first may come before the sleep
  tell(&w, count_until_handled);
  setitimer(ITIMER_REAL, &t, NULL);
  SAY("setitimer ends main's sleep", nanosleep(&hour, NULL));
  SAY("  in main", !!pthread_equal(handler_thread, self));
  finish(&w);
  limit();
  take_handled();
  // The default action of a signal for a single thread applies to the process.
  fflush(stdout);
  pid_t child = MUST(fork());
  if (child == 0) {
    struct servant x;
    begin(&x);
    signal(SIGUSR1, SIG_DFL);
    tell(&x, read_pipe);
    await_all_waiting();
    pthread_kill(x.id, SIGUSR1);
    nanosleep(&hour, NULL);
    _exit(1);
  }
  int status;
  MUST(waitpid(child, &status, 0));
  SAY("SIG_DFL in a thread ends the process", WIFSIGNALED(status) ? WTERMSIG(status) : -1);
  end(&w), end(&other);
}

static void* suspends(void* p) {
  sigset_t s = set_of(SIGUSR2, 0);
  long r = sigsuspend(&s);
  return (void*)(r < 0 ? -(long)errno : r);
}
static void* ppolls(void* p) {
  sigset_t s = set_of(SIGUSR2, 0);
  long r = ppoll(NULL, 0, NULL, &s);
  return (void*)(r < 0 ? -(long)errno : r);
}
static void* pselects(void* p) {
  sigset_t s = set_of(SIGUSR2, 0);
  long r = pselect(0, NULL, NULL, NULL, NULL, &s);
  return (void*)(r < 0 ? -(long)errno : r);
}
static void* epoll_pwaits(void* p) {
  sigset_t s = set_of(SIGUSR2, 0);
  int ep = epoll_create1(0);
  struct epoll_event e;
  long r = epoll_pwait(ep, &e, 1, -1, &s);
  int error = errno;
  close(ep);
  return (void*)(r < 0 ? -(long)error : r);
}
static void with_masks(void) {
  printf("-- calls with a mask\n");
  static const struct {
    const char* name;
    void* (*f)(void*);
  } calls[] = {{"sigsuspend", suspends},
               {"ppoll", ppolls},
               {"pselect", pselects},
               {"epoll_pwait", epoll_pwaits}};
  struct servant w, v;
  sigset_t s = set_of(SIGUSR1, 0), before;
  install_note(SIGUSR1, SA_RESTART, 0);
  pthread_sigmask(SIG_BLOCK, &s, &before);
  begin(&w), begin(&v);
  for (int i = 0; i < 4; i++) {
    printf("%s\n", calls[i].name);
    tell(&w, calls[i].f), tell(&v, calls[i].f);
    await_all_waiting();
    pthread_kill(w.id, SIGUSR1);
    SAY("  one of two ends", finish(&w));
    SAY("  handled there", !!pthread_equal(handler_thread, w.id));
    SAY("  blocked again", do_in(&w, say_usr1_blocked));
    await_all_waiting();
    kill(getpid(), SIGUSR1);
    SAY("  the other by one for the process, which main blocks", finish(&v));
    SAY("  handled there", !!pthread_equal(handler_thread, v.id));
    SAY("  handlers", take_handled());
    pthread_kill(w.id, SIGUSR1);
    SAY("  a pending signal", do_in(&w, calls[i].f));
    SAY("  handlers", take_handled());
  }
  end(&w), end(&v);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static int on_stack_of;
static char* stack_low;
static void on_alternate(int signal) {
  char here;
  stack_t s;
  sigaltstack(NULL, &s);
  on_stack_of = (&here >= (char*)s.ss_sp && &here < (char*)s.ss_sp + s.ss_size) * 10 +
                !!(s.ss_flags & SS_ONSTACK) + ((char*)s.ss_sp == stack_low ? 100 : 0);
  handled++;
}
static char stack_w[65536], stack_m[65536];
static void* sets_stack(void* p) {
  stack_t s = {.ss_sp = stack_w, .ss_size = sizeof stack_w}, old;
  long r = sigaltstack(&s, &old);
  return (void*)(r * 10 + (old.ss_flags == SS_DISABLE));
}
static void* has_stack(void* p) {
  stack_t old;
  sigaltstack(NULL, &old);
  return (void*)(long)(old.ss_flags == SS_DISABLE ? 0 : (char*)old.ss_sp == stack_w ? 1 : 2);
}
static void* raises(void* p) {
  raise(SIGUSR1);
  return (void*)(long)on_stack_of;
}
static void* no_stack(void* p) {
  stack_t s = {.ss_flags = SS_DISABLE};
  return (void*)(long)sigaltstack(&s, NULL);
}
static void alternate_stacks(void) {
  printf("-- alternate stacks\n");
  struct servant w, v;
  stack_t s = {.ss_sp = stack_m, .ss_size = sizeof stack_m};
  begin(&v);
  SAY("main has none", (long)has_stack(NULL));
  SAY("main's", sigaltstack(&s, NULL));
  begin(&w);
  SAY("a new thread has none", do_in(&w, has_stack));
  SAY("sets one", do_in(&w, sets_stack));
  SAY("has it", do_in(&w, has_stack));
  SAY("another has none", do_in(&v, has_stack));
  SAY("main has its own", (long)has_stack(NULL));
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_handler = on_alternate;
  a.sa_flags = SA_ONSTACK;
  MUST(sigaction(SIGUSR1, &a, NULL));
  stack_low = stack_w;
  SAY("a handler in the thread", do_in(&w, raises));
  stack_low = stack_m;
  SAY("in main", (long)raises(NULL));
  stack_low = NULL;
  SAY("in the one without", do_in(&v, raises));
  take_handled();
  stack_low = stack_w;
  tell(&w, sleep_hour);
  await_all_waiting();
  pthread_kill(w.id, SIGUSR1);
  SAY("in a sleep", finish(&w));
  SAY("  on it", on_stack_of);
  SAY("  once", take_handled());
  SAY("taken away", do_in(&w, no_stack));
  SAY("  it has none", do_in(&w, has_stack));
  s.ss_size = 100;
  SAY("too small", sigaltstack(&s, NULL));
  s.ss_size = sizeof stack_m;
  s.ss_flags = 0x77;
  SAY("bad flags", sigaltstack(&s, NULL));
  end(&w), end(&v);
  s.ss_flags = SS_DISABLE;
  sigaltstack(&s, NULL);
}

static __thread sigjmp_buf back;
static __thread volatile int jumped;
static void jump(int s) {
  jumped++;
  siglongjmp(back, 1);
}
static void* jumps(void* p) {
  jumped = 0;
  for (volatile int i = 0; i < 20; i++) {
    if (sigsetjmp(back, 1) == 0) {
      char c;
      if (i % 4 == 0) nanosleep(&hour, NULL);
      else if (i % 4 == 1) read(fds[0], &c, 1);
      else if (i % 4 == 2) pause();
      else {
        struct pollfd f = {.fd = fds[0], .events = POLLIN};
        poll(&f, 1, -1);
      }
    }
  }
  return (void*)(long)(jumped * 10 + blocks_signal(SIGUSR1));
}
static struct servant jumpers[3];
static void leaving(void) {
  printf("-- leaving by siglongjmp\n");
  MUST(pipe(fds));
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_handler = jump;
  MUST(sigaction(SIGUSR1, &a, NULL));
  for (int i = 0; i < 3; i++) begin(&jumpers[i]);
  for (int i = 0; i < 3; i++) tell(&jumpers[i], jumps);
  for (int n = 0; n < 20; n++) {
    await_all_waiting();
    for (int i = 0; i < 3; i++) pthread_kill(jumpers[i].id, SIGUSR1);
  }
  for (int i = 0; i < 3; i++) SAY("a thread left 20 calls", finish(&jumpers[i]));
  for (int i = 0; i < 3; i++) end(&jumpers[i]);
  close(fds[0]), close(fds[1]);
}

// --- handlers that wait for other threads ---

static sem_t stopped;
static volatile sig_atomic_t go_on;
static void stops(int signal) {
  (void)signal;
  sigset_t all_but_usr2;
  sigfillset(&all_but_usr2);
  sigdelset(&all_but_usr2, SIGUSR2);
  sem_post(&stopped);
  sigsuspend(&all_but_usr2);
}
static void sleeps_until_told(int signal) {
  (void)signal;
  sem_post(&stopped);
  while (!go_on) nanosleep(&soon, NULL);
}
static void spins_until_told(int signal) {
  (void)signal;
  sem_post(&stopped);
  while (!go_on) {}
}
static void* is_stopped_in_sigsuspend(void* unused) {
  (void)unused;
  sigset_t usr1 = set_of(SIGUSR1, 0), none_blocked = set_of(0, 0);
  pthread_sigmask(SIG_BLOCK, &usr1, NULL);
  int r = sigsuspend(&none_blocked);
  r = r == -1 && errno == EINTR && blocks_signal(SIGUSR1) && !blocks_signal(SIGUSR2);
  pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
  return (void*)(long)r;
}

static sem_t wanted, may_end;
static void* takes(void* unused) {
  (void)unused;
  while (sem_wait(&wanted)) {}
  return (void*)1;
}
static void waits_for_end(int signal) {
  (void)signal;
  sem_post(&stopped);
  while (sem_wait(&may_end)) {}
}

static void waiting_handlers(void) {
  printf("-- handlers that wait\n");
  struct servant w;
  begin(&w);
  sem_init(&stopped, 0, 0);
  struct sigaction a;
  memset(&a, 0, sizeof a);
  install_note(SIGUSR2, 0, 0);
  void (*const handlers[])(int) = {stops, sleeps_until_told, spins_until_told};
  for (int i = 0; i < 3; i++) {
    a.sa_handler = handlers[i];
    sigfillset(&a.sa_mask);
    MUST(sigaction(SIGUSR1, &a, NULL));
    go_on = 0;
    tell(&w, i == 0 ? is_stopped_in_sigsuspend : sleep_hour);
    await_all_waiting();
    pthread_kill(w.id, SIGUSR1);
    while (sem_wait(&stopped)) {}
    SAY("main goes on while a handler waits", nanosleep(&soon, NULL));
    go_on = 1;
    pthread_kill(w.id, SIGUSR2);
    SAY("  and the thread, when it has run", finish(&w));
  }

  struct servant other;
  begin(&other);
  sem_init(&wanted, 0, 0), sem_init(&may_end, 0, 0);
  a.sa_handler = waits_for_end;
  a.sa_flags = SA_RESTART;
  MUST(sigaction(SIGUSR1, &a, NULL));
  tell(&w, takes);
  await_all_waiting();
  pthread_kill(w.id, SIGUSR1);
  while (sem_wait(&stopped)) {}
  tell(&other, takes);
  await_all_waiting();
  sem_post(&wanted);
  SAY("what a thread waited for before its handler, another gets", finish(&other));
  sem_post(&may_end), sem_post(&wanted);
  SAY("  and it gets the next", finish(&w));
  end(&other);
  end(&w);
  take_handled();

  // Before the thread's first instruction.
  install_note(SIGUSR1, 0, 0);
  struct servant fresh;
  begin(&fresh);
  pthread_kill(fresh.id, SIGUSR1);
  do_in(&fresh, say_usr1_blocked);
  SAY("a new thread's handler", take_handled());
  SAY("  ran there", !!pthread_equal(handler_thread, fresh.id));
  end(&fresh);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static void* pauses_for_usr1(void* unused) {
  (void)unused;
  sighold(SIGUSR1);
  long r = sigpause(SIGUSR1);
  sigrelse(SIGUSR1);
  return (void*)r;
}
#pragma GCC diagnostic pop
static void* gettid_of(void* unused) {
  (void)unused;
  return (void*)(long)gettid();
}
static void older_calls(void) {
  printf("-- sigpause, and kill of a thread's number\n");
  struct servant w;
  begin(&w);
  install_note(SIGUSR1, 0, 0);
  tell(&w, pauses_for_usr1);
  await_all_waiting();
  pthread_kill(w.id, SIGUSR1);
  SAY("sigpause is ended by its signal", finish(&w));
  SAY("  which was handled", take_handled());
  sigset_t usr1 = set_of(SIGUSR1, 0);
  pthread_sigmask(SIG_BLOCK, &usr1, NULL);
  do_in(&w, block_usr1);
  SAY("kill of a thread's number", kill((pid_t)do_in(&w, gettid_of), SIGUSR1));
  SAY("  is for the process", is_pending(SIGUSR1));
  pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
  SAY("  handled", take_handled());
  end(&w);
}

// --- handlers that wait for another thread, as those of garbage collectors do ---

enum { stopped_threads = 6, rounds = 10 };
static sem_t all_stopped, let_go, gate;
static pthread_mutex_t gate_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_opens = PTHREAD_COND_INITIALIZER;
static volatile int gate_open;
static int gate_pipe[2];
static __thread volatile long my_stops;

static void stops_until_told(int signal) {
  int saved = errno;
  sigset_t others;
  sigfillset(&others);
  sigdelset(&others, SIGUSR2);
  my_stops++;
  sem_post(&all_stopped);
  sigsuspend(&others);
  sem_post(&all_stopped);
  errno = saved;
}
static void stops_by_semaphore(int signal) {
  int saved = errno;
  my_stops++;
  sem_post(&all_stopped);
  while (sem_wait(&let_go)) {}
  sem_post(&all_stopped);
  errno = saved;
}
static void goes_on(int signal) {}

static void* in_condition(void* p) {
  pthread_mutex_lock(&gate_mutex);
  while (!gate_open) pthread_cond_wait(&gate_opens, &gate_mutex);
  pthread_mutex_unlock(&gate_mutex);
  return (void*)my_stops;
}
static void* in_read(void* p) {
  char c;
  return (void*)(read(gate_pipe[0], &c, 1) == 1 ? my_stops : -1);
}
static void* in_semaphore(void* p) { return (void*)(sem_wait(&gate) == 0 ? my_stops : -1); }
static void* in_computing(void* p) {
  while (!gate_open) {}
  return (void*)my_stops;
}
static void* in_sigsuspend(void* p) {
  sigset_t blocked = set_of(SIGUSR1, SIGHUP), open = set_of(SIGTERM, 0);
  pthread_sigmask(SIG_BLOCK, &blocked, NULL);
  while (!gate_open) {
    if (sigsuspend(&open) != -1 || errno != EINTR) return (void*)-1;
    if (!blocks_signal(SIGUSR1) || !blocks_signal(SIGHUP) || blocks_signal(SIGTERM))
      return (void*)-2;
  }
  pthread_sigmask(SIG_UNBLOCK, &blocked, NULL);
  return (void*)my_stops;
}
static void* in_sleep(void* p) {
  while (!gate_open) nanosleep(&soon, NULL);
  return (void*)my_stops;
}

static void await_all_stopped(void) {
  for (int i = 0; i < stopped_threads; i++) {
    while (sem_wait(&all_stopped)) {}
  }
}
static void stopping(const char* how, void (*stop)(int)) {
  printf("-- the world stops: %s\n", how);
  static const struct {
    const char* name;
    void* (*run)(void*);
  } kinds[stopped_threads] = {{"pthread_cond_wait", in_condition}, {"read", in_read},
                              {"sem_wait", in_semaphore},          {"a computation", in_computing},
                              {"sigsuspend", in_sigsuspend},       {"nanosleep", in_sleep}};
  sem_init(&all_stopped, 0, 0), sem_init(&let_go, 0, 0), sem_init(&gate, 0, 0);
  gate_open = 0;
  MUST(pipe(gate_pipe));
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_flags = SA_RESTART;
  sigfillset(&a.sa_mask);
  a.sa_handler = stop;
  MUST(sigaction(SIGUSR1, &a, NULL));
  a.sa_handler = goes_on;
  MUST(sigaction(SIGUSR2, &a, NULL));
  MUST(sigaction(SIGHUP, &a, NULL));
  struct servant w[stopped_threads];
  for (int i = 0; i < stopped_threads; i++) begin(&w[i]), tell(&w[i], kinds[i].run);
  for (int n = 0; n < rounds; n++) {
    for (int i = 0; i < stopped_threads; i++) pthread_kill(w[i].id, SIGUSR1);
    await_all_stopped();
    for (int i = 0; i < stopped_threads; i++) {
      if (stop == stops_until_told) pthread_kill(w[i].id, SIGUSR2);
      else sem_post(&let_go);
    }
    await_all_stopped();
  }
  pthread_mutex_lock(&gate_mutex);
  gate_open = 1;
  pthread_cond_broadcast(&gate_opens);
  pthread_mutex_unlock(&gate_mutex);
  pthread_kill(w[4].id, SIGHUP);  // it is in sigsuspend
  sem_post(&gate);
  MUST(write(gate_pipe[1], "x", 1));
  for (int i = 0; i < stopped_threads; i++) {
    SAY(kinds[i].name, finish(&w[i]));
    end(&w[i]);
  }
  close(gate_pipe[0]), close(gate_pipe[1]);
}

int main(void) {
  masks();
  kills();
  waits();
  for_process();
  with_masks();
  alternate_stacks();
  leaving();
  waiting_handlers();
  older_calls();
  stopping("handlers in sigsuspend", stops_until_told);
  stopping("handlers in sem_wait", stops_by_semaphore);
}
