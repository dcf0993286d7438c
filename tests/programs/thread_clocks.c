// The CPU clocks of threads: clock_gettime(2), pthread_getcpuclockid(3), getrusage(2), and waits on
// such a clock, clock_nanosleep(2) and timer_create(2). A thread that waits uses no CPU time,
// whatever the others do.
#include "threads.h"

#include <sys/resource.h>
#include <sys/syscall.h>

static const long ms = 1000000;

static long time_of(clockid_t clock) {
  struct timespec t;
  MUST(clock_gettime(clock, &t));
  return t.tv_sec * 1000000000 + t.tv_nsec;
}
static long own_time(void) { return time_of(CLOCK_THREAD_CPUTIME_ID); }
static struct timespec span(long ns) { return (struct timespec){ns / 1000000000, ns % 1000000000}; }
// Computes until the running thread has used `ns` more of the CPU, partly in the kernel.
static void use(long ns) {
  for (long until = own_time() + ns; own_time() < until;) getppid();
}
static clockid_t clock_of(pthread_t id) {
  clockid_t clock;
  int e = pthread_getcpuclockid(id, &clock);
  if (e) printf("pthread_getcpuclockid: %s\n", strerrorname_np(e)), exit(95);
  return clock;
}

// The kernel removes a thread's clock some time after the thread's end.
static void await_gone(clockid_t clock) {
  struct timespec t;
  while (clock_gettime(clock, &t) == 0) sched_yield();
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void* waits(void* p) {
  pthread_mutex_lock(&lock);
  pthread_mutex_unlock(&lock);
  return p;
}
static void* uses(void* ns) {
  use((long)(intptr_t)ns);
  return NULL;
}
static volatile int stop;
static void* uses_until_stopped(void* unused) {
  while (!stop) getppid();
  return unused;
}

// --- reading the clocks ---

static void* first_question(void* before) {
  return (void*)(intptr_t)(own_time() < (intptr_t)before);
}
static void* times(void* p) {
  struct worker w;
  long begin = own_time();
  SAY("a new thread has used less than the main one", begin < (intptr_t)p);
  use(30 * ms);
  SAY("and what it uses", own_time() >= begin + 30 * ms);
  begin = own_time();
  start(&w, uses, (void*)(intptr_t)(50 * ms));
  end_of(&w);
  SAY("but not what another does", own_time() < begin + 50 * ms);
  struct timespec t;
  SAY("by system call", syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &t));
  SAY("  the same clock", t.tv_sec * 1000000000 + t.tv_nsec <= own_time());
  begin = own_time();
  struct rusage usage;
  SAY("getrusage", getrusage(RUSAGE_THREAD, &usage));
  long told = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000 +
              (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
  SAY("  reports the same time", told <= own_time() && told * 10 > begin * 5);
  SAY("a bad address", syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, NOWHERE));
  SAY("getrusage to a bad address", syscall(SYS_getrusage, RUSAGE_THREAD, NOWHERE));
  return NULL;
}
static void telling(void) {
  struct worker w;
  struct timespec t, until = {0, 0};
  // Before any thread has read its clock.
  do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &until);
  while (until.tv_nsec < 60 * ms && until.tv_sec == 0);
  start(&w, first_question, (void*)(intptr_t)(60 * ms));
  SAY("what main has used is no thread's", (intptr_t)end_of(&w));
  SAY("  but main's", own_time() > 30 * ms);
  start(&w, times, (void*)(intptr_t)own_time());
  end_of(&w);

  printf("-- others' clocks\n");
  pthread_mutex_lock(&lock);
  start(&w, waits, NULL);
  await_waiting(&w);
  clockid_t clock = clock_of(w.id);
  SAY("reports the time", clock_gettime(clock, &t));
  long begin = time_of(clock);
  use(50 * ms);
  SAY("a thread that waits uses none", time_of(clock) < begin + 50 * ms);
  SAY("its resolution", clock_getres(clock, &t));
  SAY("  is a nanosecond", t.tv_sec == 0 && t.tv_nsec == 1);
  SAY("no resolution is asked", clock_getres(clock, NULL));
  t = span(0);
  SAY("it cannot be set", clock_settime(clock, &t));
  SAY("nor one's own", clock_settime(CLOCK_THREAD_CPUTIME_ID, &t));
  pthread_mutex_unlock(&lock);
  await_gone(clock);
  SAY("the clock of an ended thread", clock_gettime(clock, &t));
  ERR("  which nobody has joined has no number any more", pthread_getcpuclockid(w.id, &clock));
  end_of(&w);
  clock = clock_of(pthread_self());
  begin = own_time();
  SAY("one's own by number", time_of(clock) >= begin);
  SAY("  is the same", time_of(clock) <= own_time());

  printf("-- a forked child's\n");
  long parents = own_time();
  if (peer()) {
    long real = time_of(CLOCK_MONOTONIC), childs = own_time();
    use(5 * ms);
    long after = own_time();
    _exit(childs < parents && after >= childs + 5 * ms &&
                  after - childs <= time_of(CLOCK_MONOTONIC) - real + ms
              ? 0
              : 1);
  }
  peer_ends();
}

static volatile long read_last;
static void* reads_own(void* unused) {
  while (!stop) read_last = own_time();
  return unused;
}
static void* reads_own_once(void* unused) {
  read_last = own_time();
  while (!stop) {}
  return unused;
}
static void exactly(void) {
  printf("-- a clock that goes\n");
  struct worker w;
  int less = 0;
  stop = 0;
  start(&w, reads_own, NULL);
  clockid_t clock = clock_of(w.id);
  for (long last = 0; last < 30 * ms;) {
    last = read_last;
    less += time_of(clock) < last;
  }
  SAY("others read less than the thread itself had", less);
  stop = 1;
  end_of(&w);
  read_last = stop = 0;
  start(&w, reads_own_once, NULL);
  while (!read_last) sched_yield();
  clock = clock_of(w.id);
  while (time_of(clock) < read_last + 20 * ms) {}
  SAY("others see it go while the thread only computes", time_of(clock) > read_last);
  stop = 1;
  end_of(&w);
}

// --- waiting on them ---

static void* sleeps_on(void* p) {
  clockid_t clock = *(clockid_t*)p;
  struct timespec hour = {3600, 0}, left = {7, 7};
  double since = seconds_on(CLOCK_MONOTONIC);
  int e = clock_nanosleep(clock, 0, &hour, &left);
  return (void*)(intptr_t)(e == EINTR &&
                           may_be_left((double)left.tv_sec + (double)left.tv_nsec / 1e9, 3600.001,
                                       since));
}
static void sleeping(void) {
  printf("-- clock_nanosleep\n");
  struct worker w, s;
  stop = 0;
  start(&w, uses_until_stopped, NULL);
  clockid_t clock = clock_of(w.id), mine = clock_of(pthread_self());
  struct timespec t = span(20 * ms);
  long begin = time_of(clock);
  ERR("a time of another thread's", clock_nanosleep(clock, 0, &t, NULL));
  SAY("  it has passed", time_of(clock) >= begin + 20 * ms);
  t = span(time_of(clock) + 20 * ms);
  ERR("a point", clock_nanosleep(clock, TIMER_ABSTIME, &t, NULL));
  SAY("  it has come", time_of(clock) >= t.tv_sec * 1000000000 + t.tv_nsec);
  ERR("a point that has passed", clock_nanosleep(clock, TIMER_ABSTIME, &t, NULL));
  t.tv_nsec = 1000000000;
  ERR("too many nanoseconds", clock_nanosleep(clock, 0, &t, NULL));
  t = span(5 * ms);
  clockid_t process;
  clock_getcpuclockid(0, &process);
  ERR("the process's by number", clock_nanosleep(process, 0, &t, NULL));
  ERR("one's own", clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL));
  t = span(ms);
  ERR("one's own by number", clock_nanosleep(mine, 0, &t, NULL));
  stop = 1;
  on_signal(SIGUSR1, 0);
  start(&s, sleeps_on, &mine);
  await_waiting(&s);
  pthread_kill(s.id, SIGUSR1);
  SAY("a handler ends it, and the rest is returned", (intptr_t)end_of(&s));
  take_handled();
  end_of(&w);
}

// --- timers ---

static clockid_t asked;
static volatile int told;
static void tell(union sigval v) { told = time_of(asked) >= 5 * ms ? v.sival_int : -2; }
static timer_t timer_on(clockid_t clock, int notify, int value) {
  return make_timer(clock, notify, SIGUSR1, value, notify == SIGEV_THREAD ? tell : NULL,
                    notify == SIGEV_THREAD_ID ? gettid() : 0);
}
static void set_timer(timer_t t, int flags, long first, long interval) {
  struct itimerspec s = {span(interval), span(first)};
  MUST(timer_settime(t, flags, &s, NULL));
}
static pthread_t volatile handled_by;
static void note(int signal) {
  (void)signal;
  handled_by = pthread_self();
  handled++;
}
static void* has_timers(void* unused) {
  struct worker w;
  struct itimerspec s;
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_handler = note;
  MUST(sigaction(SIGUSR1, &a, NULL));
  timer_t t = timer_on(CLOCK_THREAD_CPUTIME_ID, SIGEV_SIGNAL, 0);
  SAY("not set", timer_gettime(t, &s));
  SAY("  there is nothing left", s.it_value.tv_sec == 0 && s.it_value.tv_nsec == 0);
  long due = own_time() + 40 * ms;
  set_timer(t, 0, 40 * ms, 0);
  start(&w, uses, (void*)(intptr_t)(60 * ms));
  end_of(&w);
  SAY("another's use does not count", take_handled());
  SAY("the rest", timer_gettime(t, &s));
  SAY("  is no more than it was",
      s.it_value.tv_sec == 0 && s.it_value.tv_nsec > 0 && s.it_value.tv_nsec <= 40 * ms);
  while (!handled) getppid();
  SAY("SIGEV_SIGNAL in time", own_time() >= due);
  SAY("  once", take_handled());
  SAY("  overruns", timer_getoverrun(t));
  timer_gettime(t, &s);
  SAY("  and nothing is left", s.it_value.tv_sec == 0 && s.it_value.tv_nsec == 0);
  due = own_time() + 10 * ms;
  set_timer(t, TIMER_ABSTIME, due, 0);
  timer_gettime(t, &s);
  SAY("at a point: the rest is no more than till then",
      s.it_value.tv_sec == 0 && s.it_value.tv_nsec <= 10 * ms);
  while (!handled) getppid();
  SAY("  in time", own_time() >= due);
  take_handled();
  set_timer(t, TIMER_ABSTIME, 1, 0);
  while (!handled) getppid();
  SAY("at a point that has passed", take_handled());
  set_timer(t, 0, 5 * ms, 5 * ms);
  while (handled < 5) getppid();
  timer_gettime(t, &s);
  SAY("again and again",
      s.it_interval.tv_nsec == 5 * ms && s.it_value.tv_nsec > 0 && s.it_value.tv_nsec <= 5 * ms);
  struct itimerspec off = {{0, 0}, {0, 0}};
  SAY("until it is stopped", timer_settime(t, 0, &off, &s));
  SAY("  which reports what was left", s.it_interval.tv_nsec == 5 * ms && s.it_value.tv_nsec > 0);
  // Several of these short periods pass between two checks of the clock.
  set_timer(t, 0, ms / 20, ms / 20);
  int missed = 0;
  for (int i = 0; i < 50 && missed <= 0; i++) {
    take_handled();
    while (!handled) getppid();
    missed = timer_getoverrun(t);
  }
  SAY("periods that were missed are counted", missed > 0);
  timer_settime(t, 0, &off, NULL);
  off.it_value.tv_nsec = 1000000000;
  SAY("too many nanoseconds", timer_settime(t, 0, &off, NULL));
  timer_delete(t);
  SAY("deleted", timer_gettime(t, &s));
  take_handled();

  t = timer_on(clock_of(pthread_self()), SIGEV_THREAD_ID, 0);
  set_timer(t, 0, 5 * ms, 0);
  while (!handled) getppid();
  SAY("SIGEV_THREAD_ID, by the clock's number", pthread_equal(handled_by, pthread_self()) != 0);
  timer_delete(t);
  asked = clock_of(pthread_self());
  t = timer_on(CLOCK_THREAD_CPUTIME_ID, SIGEV_THREAD, 5);
  set_timer(t, 0, 5 * ms, 0);
  while (!told) sched_yield();
  SAY("SIGEV_THREAD, where the clock can be asked, too", told);
  timer_delete(t);
  return unused;
}
static void timers(void) {
  printf("-- timers\n");
  struct worker w;
  start(&w, has_timers, NULL);
  end_of(&w);
  // On the clock of another thread.
  take_handled();
  stop = 0;
  start(&w, uses_until_stopped, NULL);
  clockid_t clock = clock_of(w.id);
  long due = time_of(clock) + 20 * ms;
  timer_t t = timer_on(clock, SIGEV_SIGNAL, 0);
  set_timer(t, TIMER_ABSTIME, due, 0);
  while (!handled) usleep(500);
  SAY("on another's clock", time_of(clock) >= due);
  stop = 1;
  end_of(&w);
  SAY("of an ended thread", timer_delete(t));
  struct sigevent none;
  memset(&none, 0, sizeof none);
  await_gone(clock);
  none.sigev_notify = SIGEV_NONE;
  SAY("a timer on the clock of a missing thread", timer_create(clock, &none, &t));
}

int main(void) {
  telling();
  exactly();
  sleeping();
  timers();
  return 0;
}
