// sleep(3), usleep(3), nanosleep(2), clock_nanosleep(2), thrd_sleep(3).
#include "cases.h"

#include <limits.h>
#include <threads.h>

static const struct timespec instant = {0, 1000000};
static const struct timespec hour = {3600, 0};

// The parent gets SIGUSR1 when it sleeps.
static double asleep_since;
static void wake_me(void) {
  asleep_since = seconds_on(CLOCK_MONOTONIC);
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
}
// Whether the rest of an hour is plausible.
static long plausible(const struct timespec* left) {
  return may_be_left((double)left->tv_sec + (double)left->tv_nsec / 1e9, 3600, asleep_since) &&
         left->tv_nsec >= 0 && left->tv_nsec < 1000000000;
}
static long lasts(double least, double since) {
  return seconds_on(CLOCK_MONOTONIC) - since >= least;
}

static void nanosleeps(void) {
  struct timespec left, t;
  double since = seconds_on(CLOCK_MONOTONIC);
  SAY("nanosleep", nanosleep(&instant, NULL));
  SAY("  is not shorter than asked", lasts(0.001, since));
  t = (struct timespec){0, 0};
  SAY("nanosleep for no time", nanosleep(&t, NULL));
  t = (struct timespec){0, 1000000000};
  SAY("nanosleep with a second's worth of nanoseconds", nanosleep(&t, NULL));
  t = (struct timespec){0, -1};
  SAY("nanosleep with negative nanoseconds", nanosleep(&t, NULL));
  t = (struct timespec){-1, 0};
  SAY("nanosleep with negative seconds", nanosleep(&t, NULL));
  SAY("nanosleep with a bad address", nanosleep(NOWHERE, NULL));
  left = (struct timespec){7, 7};
  SAY("nanosleep to its end", nanosleep(&instant, &left));
  SAY("  leaves the remaining time alone", left.tv_sec == 7 && left.tv_nsec == 7);

  on_signal(SIGUSR1, 0);
  wake_me();
  SAY("nanosleep is ended by a handler", nanosleep(&hour, &left));
  SAY("  and returns the rest", plausible(&left));
  SAY("  handlers", take_handled());
  peer_ends();
  on_signal(SIGUSR1, SA_RESTART);
  wake_me();
  SAY("SA_RESTART does not matter", nanosleep(&hour, NULL));
  peer_ends();
  t = hour;
  wake_me();
  SAY("the remaining time may go where the time is", nanosleep(&t, &t));
  SAY("  and returns the rest", plausible(&t));
  peer_ends();
  wake_me();
  SAY("nowhere to put the remaining time", nanosleep(&hour, NOWHERE));
  peer_ends();
  take_handled();

  const struct timespec longest = {LONG_MAX, 999999999};
  wake_me();
  SAY("the longest nanosleep lasts until a handler", nanosleep(&longest, NULL));
  peer_ends();
  const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
  for (int i = 0; i < 6; i++) {
    wake_me();
    SAY("  and clock_nanosleep",
        clock_nanosleep(clocks[i / 2], i % 2 ? TIMER_ABSTIME : 0, &longest, NULL));
    peer_ends();
  }
  take_handled();

  raise(SIGUSR1);
  SAY("a handler before nanosleep does not count", nanosleep(&instant, NULL));
  signal(SIGUSR2, SIG_IGN);
  if (peer()) {
    await_blocked();
    kill(getppid(), SIGUSR2);
    await_blocked();
    kill(getppid(), SIGUSR1);
    leave();
  }
  SAY("an ignored signal does not count", nanosleep(&hour, NULL));
  peer_ends();
  take_handled();
}

static void clocks(void) {
  struct {
    const char* name;
    clockid_t clock;
  } all[] = {{"CLOCK_REALTIME", CLOCK_REALTIME},
             {"CLOCK_MONOTONIC", CLOCK_MONOTONIC},
             {"CLOCK_BOOTTIME", CLOCK_BOOTTIME},
             {"CLOCK_TAI", CLOCK_TAI},
             {"CLOCK_MONOTONIC_RAW", CLOCK_MONOTONIC_RAW},
             {"CLOCK_MONOTONIC_COARSE", CLOCK_MONOTONIC_COARSE},
             {"CLOCK_THREAD_CPUTIME_ID", CLOCK_THREAD_CPUTIME_ID},
             {"clock 99", 99}};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    clockid_t c = all[i].clock;
    struct timespec t, left = {7, 7};
    printf("-- %s\n", all[i].name);
    SAY("a time", clock_nanosleep(c, 0, &instant, &left));
    SAY("  leaves the remaining time alone", left.tv_sec == 7 && left.tv_nsec == 7);
    if (clock_gettime(c, &t) < 0) continue;
    SAY("the point that has come", clock_nanosleep(c, TIMER_ABSTIME, &t, NULL));
    t.tv_sec -= 10;
    SAY("a point that has passed", clock_nanosleep(c, TIMER_ABSTIME, &t, NULL));
    t = (struct timespec){0, 0};
    SAY("the beginning of time", clock_nanosleep(c, TIMER_ABSTIME, &t, NULL));
    clock_gettime(c, &t);
    t.tv_nsec += 2000000;
    if (t.tv_nsec >= 1000000000) t.tv_sec++, t.tv_nsec -= 1000000000;
    SAY("a point to come", clock_nanosleep(c, TIMER_ABSTIME, &t, NULL));
    struct timespec n;
    clock_gettime(c, &n);
    if (c != CLOCK_THREAD_CPUTIME_ID && c != CLOCK_MONOTONIC_RAW && c != CLOCK_MONOTONIC_COARSE) {
      SAY("  it has come", n.tv_sec > t.tv_sec || (n.tv_sec == t.tv_sec && n.tv_nsec >= t.tv_nsec));
    }
    t = (struct timespec){1, 1000000000};
    SAY("too many nanoseconds", clock_nanosleep(c, 0, &t, NULL));
    t = (struct timespec){-1, 0};
    SAY("a time before all", clock_nanosleep(c, TIMER_ABSTIME, &t, NULL));
    SAY("a bad address", clock_nanosleep(c, 0, NOWHERE, NULL));
    if (i > 3) continue;
    wake_me();
    left = (struct timespec){7, 7};
    SAY("a handler", clock_nanosleep(c, 0, &hour, &left));
    SAY("  returns the rest", plausible(&left));
    peer_ends();
    clock_gettime(c, &t);
    t.tv_sec += 3600;
    wake_me();
    left = (struct timespec){7, 7};
    SAY("a handler, and a point to come", clock_nanosleep(c, TIMER_ABSTIME, &t, &left));
    SAY("  leaves the remaining time alone", left.tv_sec == 7 && left.tv_nsec == 7);
    peer_ends();
  }
  printf("-- the process's CPU clock\n");
  struct timespec none = {0, 0};
  SAY("no time", clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &none, NULL));
  SAY("a point that has passed",
      clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, &none, NULL));
  take_handled();
  wake_me();
  SAY("a handler", clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, 0, &hour, NULL));
  SAY("  which ran", take_handled());
  peer_ends();
}

static void seconds(void) {
  on_signal(SIGUSR1, 0);
  SAY("sleep for no time", sleep(0));
  wake_me();
  unsigned left = sleep(3600);
  SAY("sleep returns the seconds that are left", may_be_left(left, 3600, asleep_since - 1));
  peer_ends();
  do {
    wake_me();
    errno = 0;
    left = sleep(1);
    int e = errno;
    peer_ends();
    errno = e;
  } while (errno == 0);  // on a slow machine, the second may have passed before
  printf("a fraction of a second does not count: %u %s\n", left, strerrorname_np(errno));
  double since = seconds_on(CLOCK_MONOTONIC);
  SAY("sleep to the end", sleep(1));
  SAY("  is not shorter than asked", lasts(1, since));
  since = seconds_on(CLOCK_MONOTONIC);
  SAY("usleep", usleep(2000));
  SAY("  is not shorter than asked", lasts(0.002, since));
  SAY("usleep for no time", usleep(0));
  SAY("usleep for more than a second", usleep(1000100));
  wake_me();
  SAY("usleep is ended by a handler", usleep(3600000000U));
  peer_ends();
  struct timespec bad = {0, -1}, rest;
  SAY("thrd_sleep", thrd_sleep(&instant, NULL));
  SAY("thrd_sleep with a bad time", thrd_sleep(&bad, NULL));
  wake_me();
  errno = 0;
  printf("thrd_sleep is ended by a handler: %d\n", thrd_sleep(&hour, &rest));
  SAY("  and returns the rest", plausible(&rest));
  peer_ends();
}

// Any of the signals may come before the sleep, so they are repeated.
static void count_and_repeat(int signal) {
  count_signal(signal);
  alarm(1);
}
static void alarms(void) {
  on_signal(SIGALRM, 0);
  take_handled();
  struct itimerval soon = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &soon, NULL);
  SAY("an interval timer ends nanosleep", nanosleep(&hour, NULL));
  setitimer(ITIMER_REAL, &never, NULL);
  SAY("  which ran", take_handled() > 0);
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_handler = count_and_repeat;
  MUST(sigaction(SIGALRM, &a, NULL));
  alarm(1);
  SAY("alarm ends nanosleep", nanosleep(&hour, NULL));
  on_signal(SIGALRM, 0);
  alarm(0);
  timer_t timer;
  struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
  MUST(timer_create(CLOCK_MONOTONIC, &e, &timer));
  struct itimerspec when = {{0, 2000000}, {0, 2000000}};
  MUST(timer_settime(timer, 0, &when, NULL));
  SAY("a POSIX timer ends nanosleep", nanosleep(&hour, NULL));
  timer_delete(timer);
  limit();
}

int main(void) {
  nanosleeps();
  clocks();
  seconds();
  alarms();
}
