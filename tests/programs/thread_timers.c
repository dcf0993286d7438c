// Timers and notifications with threads: timer_create(2) of all kinds, mq_notify(3), setitimer(2)
// for real and CPU time, signalfd(2), eventfd(2) and timerfd(2) between threads, SIGCHLD, several
// threads that wait for the same signal.
#include "threads.h"

#include <mqueue.h>
#include <poll.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static const struct timespec hour = {3600, 0};

static sigset_t set_of(int signal) {
  sigset_t s;
  sigemptyset(&s);
  sigaddset(&s, signal);
  return s;
}
static void* result_of(void* (*run)(void*), void* argument) {
  struct worker w;
  start(&w, run, argument);
  return end_of(&w);
}

static pthread_t main_thread;
static pthread_t volatile handled_by;
static volatile int code, value;
static void note(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)context;
  handled_by = pthread_self();
  code = info->si_code;
  value = info->si_value.sival_int;
  handled++;
}
static void install(int signal, int flags) {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_sigaction = note;
  a.sa_flags = SA_SIGINFO | flags;
  MUST(sigaction(signal, &a, NULL));
}

// --- timers ---

// The number of calls of the function of a timer with that value. A late call of a deleted timer
// counts for no other.
static volatile int calls[8];
static volatile int own_thread;
static void tell(union sigval v) {
  own_thread = !pthread_equal(pthread_self(), main_thread);
  // Calls that such a function may make.
  struct timespec t = {0, 100000};
  nanosleep(&t, NULL);
  __atomic_fetch_add(&calls[v.sival_int], 1, __ATOMIC_SEQ_CST);
}
static void await_calls(int which, int times) {
  while (__atomic_load_n(&calls[which], __ATOMIC_SEQ_CST) < times) usleep(200);
}
static void set_timer(timer_t t, long us, long interval_us) {
  struct itimerspec s = {{0, interval_us * 1000}, {0, us * 1000}};
  MUST(timer_settime(t, 0, &s, NULL));
}
static void* wants_signal(void* p) {
  // The value is delivered to the thread whose id was given, on its own stack, and ends its sleep.
  timer_t t = make_timer((clockid_t)(intptr_t)p, SIGEV_THREAD_ID, SIGUSR2, 11, NULL, gettid());
  set_timer(t, 2000, 2000);  // again: the first may come before the sleep
  errno = 0;
  long r = nanosleep(&hour, NULL);
  int right = r == -1 && errno == EINTR && pthread_equal(handled_by, pthread_self()) &&
              value == 11 && code == SI_TIMER;
  timer_delete(t);
  return (void*)(intptr_t)right;
}
static void* waits_for_signal(void* p) {
  sigset_t s = set_of(SIGUSR2);
  siginfo_t info;
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  timer_t t =
      make_timer(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGUSR2, (int)(intptr_t)p, NULL, gettid());
  set_timer(t, 1000, 0);
  int r = sigwaitinfo(&s, &info);
  timer_delete(t);
  return (void*)(intptr_t)(r == SIGUSR2 && info.si_value.sival_int == (int)(intptr_t)p &&
                           info.si_code == SI_TIMER);
}
static void timers(void) {
  printf("-- timer_create\n");
  struct sigevent bad;
  timer_t t;
  t = make_timer(CLOCK_MONOTONIC, SIGEV_THREAD, 0, 1, tell, 0);
  set_timer(t, 1000, 0);
  await_calls(1, 1);
  SAY("SIGEV_THREAD, in a thread of its own", own_thread);
  set_timer(t, 1000, 1000);
  await_calls(1, 6);
  SAY("  again and again", timer_delete(t));
  pthread_attr_t detached;
  pthread_attr_init(&detached);
  pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
  struct sigevent e;
  memset(&e, 0, sizeof e);
  e.sigev_notify = SIGEV_THREAD;
  e.sigev_notify_function = tell;
  e.sigev_notify_attributes = &detached;
  e.sigev_value.sival_int = 2;
  MUST(timer_create(CLOCK_REALTIME, &e, &t));
  set_timer(t, 1000, 0);
  await_calls(2, 1);
  SAY("  with attributes", calls[2]);
  timer_delete(t);
  timer_t three[3];
  for (int i = 0; i < 3; i++)
    three[i] = make_timer(CLOCK_MONOTONIC, SIGEV_THREAD, 0, 3 + i, tell, 0);
  for (int i = 0; i < 3; i++) set_timer(three[i], 1000 + 500 * i, 0);
  for (int i = 0; i < 3; i++) await_calls(3 + i, 1);
  SAY("  three timers", calls[3] + calls[4] + calls[5]);
  for (int i = 0; i < 3; i++) timer_delete(three[i]);
  install(SIGUSR1, 0);
  t = make_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 9, NULL, 0);
  set_timer(t, 2000, 2000);
  SAY("SIGEV_SIGNAL ends main's sleep", nanosleep(&hour, NULL));
  SAY("  value", value);
  SAY("  code", code == SI_TIMER);
  SAY("  in main", !!pthread_equal(handled_by, main_thread));
  timer_delete(t);
  install(SIGUSR2, SA_RESTART);
  SAY("SIGEV_THREAD_ID", (intptr_t)result_of(wants_signal, (void*)CLOCK_MONOTONIC));
  SAY("  by the real time clock", (intptr_t)result_of(wants_signal, (void*)CLOCK_REALTIME));
  struct worker w[4];
  for (intptr_t i = 0; i < 4; i++) start(&w[i], waits_for_signal, (void*)(i + 50));
  long sum = 0;
  for (int i = 0; i < 4; i++) sum += (intptr_t)end_of(&w[i]);
  SAY("  four threads, each with its own in sigwaitinfo", sum);
  // The timers of some run out while others begin.
  sum = 0;
  for (int round = 0; round < 100; round++) {
    for (intptr_t i = 0; i < 4; i++) start(&w[i], waits_for_signal, (void*)(i + 50));
    for (int i = 0; i < 4; i++) sum += (intptr_t)end_of(&w[i]);
  }
  SAY("  again and again", sum);
  t = make_timer(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, NULL, 0);
  set_timer(t, 500, 0);
  struct itimerspec left;
  do MUST(timer_gettime(t, &left));
  while (left.it_value.tv_sec || left.it_value.tv_nsec);
  SAY("SIGEV_NONE runs out", timer_delete(t));
  memset(&bad, 0, sizeof bad);
  bad.sigev_notify = 77;
  SAY("a bad kind", timer_create(CLOCK_MONOTONIC, &bad, &t));
  bad.sigev_notify = SIGEV_THREAD_ID;
  bad.sigev_signo = SIGUSR1;
  bad._sigev_un._tid = 1;
  SAY("SIGEV_THREAD_ID for another process", timer_create(CLOCK_MONOTONIC, &bad, &t));
  SAY("a bad clock", timer_create(77, NULL, &t));
}

// --- interval timers ---

static volatile int stop;
static void* burns(void* p) {
  volatile long n = 0;
  while (!stop) n++;
  return p;
}
static void* burns_until_handled(void* times) {
  volatile long n = 0;
  while (handled < (int)(intptr_t)times) n++;
  return NULL;
}
static void intervals(void) {
  printf("-- setitimer\n");
  struct itimerval soon = {{0, 2000}, {0, 2000}}, again = {{0, 1000}, {0, 1000}},
                   off = {{0, 0}, {0, 0}}, was;
  struct worker w[2];
  install(SIGALRM, 0);
  take_handled();
  start(&w[0], burns, NULL);
  SAY("ITIMER_REAL", setitimer(ITIMER_REAL, &soon, NULL));
  SAY("  ends main's sleep while a thread is busy", nanosleep(&hour, NULL));
  SAY("  in main", !!pthread_equal(handled_by, main_thread));
  stop = 1;
  end_of(&w[0]);
  setitimer(ITIMER_REAL, &off, NULL);
  take_handled();
  setitimer(ITIMER_REAL, &again, NULL);
  while (handled < 5) pause();
  SAY("  again and again", setitimer(ITIMER_REAL, &off, &was));
  SAY("  reports its interval", was.it_interval.tv_usec);
  limit();
  // A profiler: the handler interrupts the code that uses the time.
  install(SIGPROF, SA_RESTART);
  for (int who = 0; who < 2; who++) {
    take_handled();
    MUST(setitimer(ITIMER_PROF, &again, NULL));
    if (who == 0) burns_until_handled((void*)5);
    else result_of(burns_until_handled, (void*)5);
    MUST(setitimer(ITIMER_PROF, &off, NULL));
    SAY(who ? "ITIMER_PROF in a thread" : "ITIMER_PROF in main", handled >= 5);
  }
  take_handled();
  MUST(setitimer(ITIMER_PROF, &again, NULL));
  for (int i = 0; i < 2; i++) start(&w[i], burns_until_handled, (void*)20);
  for (int i = 0; i < 2; i++) end_of(&w[i]);
  MUST(setitimer(ITIMER_PROF, &off, NULL));
  SAY("  with two that are busy", handled >= 20);
  take_handled();
  install(SIGVTALRM, SA_RESTART);
  MUST(setitimer(ITIMER_VIRTUAL, &again, NULL));
  result_of(burns_until_handled, (void*)3);
  MUST(setitimer(ITIMER_VIRTUAL, &off, NULL));
  SAY("ITIMER_VIRTUAL", handled >= 3);
  take_handled();
}

// --- notifications by message queues ---

static mqd_t queue;
static sem_t told;
static volatile int last_value, bytes;
static void queue_tells(union sigval v) {
  char text[16];
  last_value = v.sival_int;
  own_thread = !pthread_equal(pthread_self(), main_thread);
  bytes += (int)mq_receive(queue, text, sizeof text, NULL);
  sem_post(&told);
}
static void* sends(void* p) { return (void*)(intptr_t)mq_send(queue, p, strlen(p), 0); }
static void notifications(void) {
  printf("-- mq_notify\n");
  char name[32], text[16];
  struct mq_attr attr = {.mq_maxmsg = 4, .mq_msgsize = 16};
  snprintf(name, sizeof name, "/timers-%d", (int)getpid());
  queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, &attr);
  if (queue < 0) {
    printf("no message queues here\n");
    return;
  }
  mq_unlink(name);
  struct sigevent e;
  memset(&e, 0, sizeof e);
  e.sigev_notify = SIGEV_THREAD;
  e.sigev_notify_function = queue_tells;
  e.sigev_value.sival_int = 12;
  sem_init(&told, 0, 0);
  for (int i = 0; i < 3; i++) {
    SAY("SIGEV_THREAD", mq_notify(queue, &e));
    SAY("  twice", mq_notify(queue, &e));
    result_of(sends, "abcd");
    while (sem_wait(&told)) {}
    SAY("  has read", bytes);
    SAY("  in a thread of its own", own_thread);
    SAY("  value", last_value);
  }
  e.sigev_notify = SIGEV_SIGNAL;
  e.sigev_signo = SIGUSR1;
  install(SIGUSR1, 0);
  take_handled();
  SAY("SIGEV_SIGNAL", mq_notify(queue, &e));
  struct worker w;
  start(&w, sends, "ef");
  while (!handled) usleep(200);
  SAY("  handled", take_handled());
  SAY("  code", code == SI_MESGQ);
  SAY("  value", value);
  SAY("  sent", (intptr_t)end_of(&w));
  SAY("  read", mq_receive(queue, text, sizeof text, NULL));
  SAY("taken back when there is none", mq_notify(queue, NULL));
  mq_close(queue);
}

// --- notifications by descriptors ---

static int event, timer;
static void* adds(void* p) {
  uint64_t one = 1;
  for (int i = 0; i < (int)(intptr_t)p; i++) {
    if (write(event, &one, 8) != 8) return (void*)-1;
    if (i % 7 == 0) sched_yield();
  }
  return NULL;
}
static void* takes(void* p) {
  uint64_t n;
  long sum = 0;
  (void)p;
  do {
    if (read(event, &n, 8) != 8) return (void*)-1;
    sum += (long)n;
  } while (sum < 300);
  return (void*)sum;
}
static void* takes_one(void* p) {
  uint64_t n = 0;
  (void)p;
  return (void*)(intptr_t)(read(event, &n, 8) == 8 ? (long)n : -1);
}
static void* waits_for_timer(void* p) {
  uint64_t n = 0;
  (void)p;
  return (void*)(intptr_t)(read(timer, &n, 8) == 8 && n >= 1);
}
static void* fills(void* p) {
  uint64_t much = (uint64_t)-2;
  (void)p;
  return (void*)(intptr_t)eventfd_write(event, much);
}
static void descriptors(void) {
  printf("-- eventfd, timerfd\n");
  struct worker w[4], r;
  event = MUST(eventfd(0, EFD_CLOEXEC));
  start(&r, takes, NULL);
  for (int i = 0; i < 3; i++) start(&w[i], adds, (void*)100);
  for (int i = 0; i < 3; i++) end_of(&w[i]);
  SAY("three add, one takes", (intptr_t)end_of(&r));
  close(event);
  event = MUST(eventfd(0, EFD_SEMAPHORE));
  for (int i = 0; i < 4; i++) start(&w[i], takes_one, NULL);
  uint64_t four = 4;
  write(event, &four, 8);
  long sum = 0;
  for (int i = 0; i < 4; i++) sum += (intptr_t)end_of(&w[i]);
  SAY("four take one each", sum);
  close(event);
  event = MUST(eventfd(5, 0));
  start(&r, fills, NULL);
  await_waiting(&r);
  eventfd_t n = 0;
  SAY("a full eventfd is read", eventfd_read(event, &n));
  SAY("  value", (long)n);
  SAY("  then it can be filled", (intptr_t)end_of(&r));
  close(event);
  timer = MUST(timerfd_create(CLOCK_MONOTONIC, 0));
  for (int i = 0; i < 2; i++) start(&w[i], waits_for_timer, NULL), await_waiting(&w[i]);
  struct itimerspec again = {{0, 2000000}, {0, 2000000}}, off = {{0, 0}, {0, 0}};
  MUST(timerfd_settime(timer, 0, &again, NULL));
  sum = 0;
  for (int i = 0; i < 2; i++) sum += (intptr_t)end_of(&w[i]);
  SAY("two wait for a timer", sum);
  MUST(timerfd_settime(timer, 0, &off, NULL));
  close(timer);
}

// --- signals ---

static int signal_fd;
static void* reads_signalfd(void* p) {
  struct signalfd_siginfo info;
  memset(&info, 0, sizeof info);
  if (p) {
    struct pollfd f = {.fd = signal_fd, .events = POLLIN};
    if (poll(&f, 1, -1) != 1) return (void*)-1;
  }
  ssize_t n = read(signal_fd, &info, sizeof info);
  return (void*)(intptr_t)(n == sizeof info ? (long)info.ssi_int : -2);
}
static void* forks_and_waits(void* p) {
  pid_t child = fork();
  if (child == 0) _exit((int)(intptr_t)p);
  int s;
  while (waitpid(child, &s, 0) < 0) {}
  return (void*)(intptr_t)WEXITSTATUS(s);
}
static volatile int waiters;
static void* waits_in_sigwait(void* p) {
  sigset_t s = set_of(SIGRTMIN);
  int signal;
  (void)p;
  __atomic_fetch_add(&waiters, 1, __ATOMIC_SEQ_CST);
  return (void*)(intptr_t)(sigwait(&s, &signal) == 0 && signal == SIGRTMIN);
}
static void signals(void) {
  printf("-- signals\n");
  struct worker w[3];
  sigset_t usr1 = set_of(SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &usr1, NULL);
  signal_fd = MUST(signalfd(-1, &usr1, SFD_CLOEXEC));
  for (intptr_t polls = 0; polls < 2; polls++) {
    start(&w[0], reads_signalfd, (void*)polls);
    await_waiting(&w[0]);
    sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 31});
    SAY(polls ? "a thread polls a signalfd" : "a thread reads a signalfd", (intptr_t)end_of(&w[0]));
  }
  close(signal_fd);
  pthread_sigmask(SIG_UNBLOCK, &usr1, NULL);
  take_handled();
  install(SIGCHLD, SA_RESTART | SA_NOCLDSTOP);
  long sum = 0;
  for (intptr_t i = 0; i < 3; i++) start(&w[i], forks_and_waits, (void*)(i + 1));
  for (int i = 0; i < 3; i++) sum += (intptr_t)end_of(&w[i]);
  SAY("SIGCHLD handled while threads wait for their children", sum);
  SAY("  handlers ran", take_handled() > 0);
  signal(SIGCHLD, SIG_DFL);
  take_handled();
  sigset_t s = set_of(SIGRTMIN);
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  for (int i = 0; i < 3; i++) start(&w[i], waits_in_sigwait, NULL);
  while (waiters < 3) sched_yield();
  for (int i = 0; i < 2; i++) kill(getpid(), SIGRTMIN);
  pthread_kill(w[2].id, SIGRTMIN);
  kill(getpid(), SIGRTMIN);  // w[2] may have taken a signal for the process before its own
  sum = 0;
  for (int i = 0; i < 3; i++) sum += (intptr_t)end_of(&w[i]);
  SAY("three in sigwait", sum);
  struct timespec none = {0, 0};
  while (sigtimedwait(&s, NULL, &none) > 0) {}
  pthread_sigmask(SIG_UNBLOCK, &s, NULL);
}

// A timer's signal that no thread has taken yet.
static int is_pending(int signal) {
  sigset_t s;
  sigpending(&s);
  return sigismember(&s, signal);
}
static void await_periods(int signal, long periods, long us) {
  // While the signal is pending, the number of expirations since then cannot be seen.
  struct timespec now, until = in_ms(CLOCK_MONOTONIC, periods * us / 1000);
  do clock_gettime(CLOCK_MONOTONIC, &now);
  while (now.tv_sec < until.tv_sec || (now.tv_sec == until.tv_sec && now.tv_nsec < until.tv_nsec) ||
         !is_pending(signal));
}
static void pending_of(const char* who, int notify, pid_t tid) {
  sigset_t s = set_of(SIGUSR2), before;
  siginfo_t info;
  struct timespec at_once = {0, 0}, long_enough = {20, 0};
  pthread_sigmask(SIG_BLOCK, &s, &before);
  printf("  of %s\n", who);
  timer_t t = make_timer(CLOCK_MONOTONIC, notify, SIGUSR2, 21, NULL, tid);
  set_timer(t, 1000, 5000);
  await_periods(SIGUSR2, 20, 5000);
  int r = sigtimedwait(&s, &info, &at_once);
  SAY("  blocked for twenty periods it comes once", r == SIGUSR2 && info.si_value.sival_int == 21);
  SAY("    with the others as overruns", info.si_overrun >= 18);
  SAY("    which the timer reports", timer_getoverrun(t) == info.si_overrun);
  // It may have expired once more since; the kernel drops that only when it looks for a signal,
  // which sigpending() does not do.
  set_timer(t, 1000, 0);
  r = sigtimedwait(&s, &info, &long_enough);
  SAY("  set anew it begins anew",
      r == SIGUSR2 && info.si_overrun == 0 && timer_getoverrun(t) == 0);
  set_timer(t, 1000, 0);
  while (!is_pending(SIGUSR2)) {}
  set_timer(t, 0, 0);
  SAY("  disarmed while it is pending", sigtimedwait(&s, &info, &at_once));
  set_timer(t, 1000, 0);
  while (!is_pending(SIGUSR2)) {}
  SAY("  deleted while it is pending", timer_delete(t));
  SAY("    then", sigtimedwait(&s, &info, &at_once));
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}
static void* pending_of_thread(void* p) {
  pending_of("a thread", SIGEV_THREAD_ID, gettid());
  return p;
}
static timer_t of_ended;
static void* makes_timer(void* p) {
  of_ended = make_timer(CLOCK_MONOTONIC, SIGEV_THREAD_ID, SIGUSR2, 31, NULL, gettid());
  return p;
}
static volatile int may_end;
static void* naps(void* p) {
  while (!may_end) usleep(1000);
  return p;
}
static void pending_signals(void) {
  printf("-- pending\n");
  struct worker w;
  sigset_t s = set_of(SIGUSR2);
  stop = 0;
  pthread_sigmask(SIG_BLOCK, &s, NULL);
  start(&w, burns, NULL);  // a thread that blocks the signal too
  pending_of("the process", SIGEV_SIGNAL, 0);
  pending_of("main", SIGEV_THREAD_ID, gettid());
  result_of(pending_of_thread, NULL);
  pthread_sigmask(SIG_UNBLOCK, &s, NULL);
  install(SIGUSR2, 0);
  take_handled();
  result_of(makes_timer, NULL);
  // nor the next thread, which may lie where that one lay
  struct worker next;
  start(&next, naps, NULL);
  set_timer(of_ended, 1000, 1000);
  timer_t later = make_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 32, NULL, 0);
  set_timer(later, 20000, 0);
  install(SIGUSR1, 0);
  while (!handled) usleep(200);  // not pause(): the signal may come just before it
  SAY("a timer of an ended thread sends no signal", handled == 1 && value == 32);
  may_end = 1;
  end_of(&next);
  timer_delete(later);
  timer_delete(of_ended);
  stop = 1;
  end_of(&w);
}

int main(void) {
  main_thread = pthread_self();
  timers();
  pending_signals();
  intervals();
  notifications();
  descriptors();
  signals();
  return 0;
}
