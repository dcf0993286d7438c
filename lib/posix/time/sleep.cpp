// sleep(3), nanosleep(2), clock_nanosleep(2).
#include <tendril/posix.hpp>

#include <sys/prctl.h>
#include <threads.h>

#include <algorithm>

#include "posix/common/offload.hpp"
#include "posix/time/clock.hpp"

namespace tendril::posix {

namespace {

// The remaining time when a handler ends a sleep: until the latest time at which the sleep would
// have ended, including the slack that the kernel allows its timers.
timespec rest_of_sleep(deadline until, core::nanoseconds ended) noexcept {
  long slack = sys::call(SYS_prctl, PR_GET_TIMERSLACK, 0, 0, 0, 0);
  return time_left(slack > 0 ? deadline::after(until.at, slack) : until, ended);
}

// Sleeps until a point of CLOCK_MONOTONIC. 0, -EINTR, -ECANCELED. Sets `ended` with -EINTR, as
// wait_parked() does.
int sleep_until(deadline until, core::nanoseconds& ended) noexcept {
  core::wait_info what;
  what.kind = core::wait_kind::sleep;
  what.interruptible = what.movable = true;
  what.wakeable_by_system = until.is_never();  // by a handler alone
  for (;;) {
    int w = wait_parked(what, until, on_signal::always, nullptr, &ended);
    if (w == -ETIMEDOUT) return 0;
    if (w < 0) return w;
  }
}

// A sleep until a time on a clock that can be set, or that runs during suspend.
struct clock_sleep {
  clockid_t clock;
  core::nanoseconds target;
  bool over = false;

  core::nanoseconds left() const noexcept {
    timespec now{};
    sys::call(SYS_clock_gettime, clock, &now);
    return target - nanoseconds_of(now);
  }
  // See wait_for_source(). No source reports changes of CLOCK_TAI's offset.
  static deadline look(void* p, bool reports) noexcept {
    constexpr core::nanoseconds at_least_every = 100'000'000;
    clock_sleep& s = *static_cast<clock_sleep*>(p);
    core::nanoseconds rest = s.left();
    s.over = rest <= 0;
    if (s.over) return deadline{0};
    if (!reports || s.clock == CLOCK_TAI) rest = std::min(rest, at_least_every);
    return deadline::after(core::now(), rest);
  }
};

// 0, -EINTR, -ECANCELED.
int sleep_by_clock(clockid_t clock, core::nanoseconds target) noexcept {
  clock_sleep s{clock, target};
  for (;;) {
    int r = wait_for_source(core::source::clock, clock_sleep::look, &s);
    if (s.over) return 0;
    if (r < 0 && r != -ETIMEDOUT) return r;
  }
}

// Sleeps on the CPU clock of another thread. It runs no faster than real time, so check again when
// it could have reached the target. The clock of an ended thread stops, so such a sleep never ends.
int sleep_by_thread(clockid_t clock, int flags, const timespec& t, timespec& rest) noexcept {
  core::wait_info what;
  what.kind = core::wait_kind::sleep;
  what.wakeable_by_system = what.interruptible = what.movable = true;
  core::nanoseconds target = nanoseconds_of(t);
  bool begun = flags & TIMER_ABSTIME;
  for (core::nanoseconds pause = 100'000;; pause = pause < 5'000'000 ? pause * 2 : pause) {
    deadline next = deadline::never();
    core::nanoseconds left = 0;
    if (core::nanoseconds now; time_of_thread(clock, now)) {
      if (!begun) target = deadline::after(now, target).at;
      begun = true;
      left = target - now;
      if (left <= 0) return 0;
      next = deadline::after(core::now(), std::max(left, pause));
    }
    int r = wait_parked(what, next, on_signal::always);
    if (r == -EINTR) rest = {.tv_sec = left / 1'000'000'000, .tv_nsec = left % 1'000'000'000};
    if (r < 0 && r != -ETIMEDOUT) return r;
  }
}

// 0, or an error number, as clock_nanosleep returns it.
int sleep_any(clockid_t clock, int flags, const timespec* wanted, timespec* left) noexcept {
  timespec t;
  if (!copy_in(t, wanted)) return EFAULT;
  if (!valid(&t)) return EINVAL;
  bool absolute = flags & TIMER_ABSTIME;
  int r;
  timespec rest{};
  if (clock == CLOCK_MONOTONIC || (clock == CLOCK_REALTIME && !absolute)) {
    deadline until = absolute ? deadline{nanoseconds_of(t)} : time_from_now(&t);
    core::nanoseconds ended = 0;
    r = sleep_until(until, ended);
    if (r == -EINTR && !absolute) rest = rest_of_sleep(until, ended);
  } else if (core::nanoseconds now; time_of_thread(clock, now)) {
    r = sleep_by_thread(clock, flags, t, rest);
  } else {
    timespec start{}, end{};
    sys::call(SYS_clock_gettime, clock, &start);
    if (clock == CLOCK_PROCESS_CPUTIME_ID || clock < 0) {
      r = int(offload_interruptible(
          [&] { return sys::call(SYS_clock_nanosleep, clock, flags, &t, 0); }, on_signal::always));
    } else {
      r = sleep_by_clock(clock, absolute
                                    ? nanoseconds_of(t)
                                    : deadline::after(nanoseconds_of(start), nanoseconds_of(t)).at);
    }
    sys::call(SYS_clock_gettime, clock, &end);
    core::nanoseconds n =
        deadline::after(nanoseconds_of(start), nanoseconds_of(t)).at - nanoseconds_of(end);
    if (n > 0) rest = {.tv_sec = n / 1'000'000'000, .tv_nsec = n % 1'000'000'000};
  }
  if (r == -EINTR && left && !absolute && !copy_out(left, rest)) return EFAULT;
  if (r == -ECANCELED) act_on_cancel();
  return -r;
}

}  // namespace

unsigned sleep(unsigned seconds) {
  if (!cooperative()) return real.sleep(seconds);
  timespec t{.tv_sec = seconds, .tv_nsec = 0}, left{};
  if (seconds == 0) {
    if (in_hubs_process()) core::yield();
    return 0;
  }
  int r = sleep_any(CLOCK_REALTIME, 0, &t, &left);
  if (r == 0) return 0;
  errno = r;
  return r == EINTR ? unsigned(left.tv_sec) : seconds;  // whole seconds, as the C library does
}

int usleep(useconds_t us) {
  if (!cooperative()) return real.usleep(us);
  timespec t{.tv_sec = us / 1'000'000, .tv_nsec = us % 1'000'000 * 1000L};
  return result<int>(-sleep_any(CLOCK_REALTIME, 0, &t, nullptr));
}

int nanosleep(const timespec* wanted, timespec* left) {
  if (!cooperative()) return real.nanosleep(wanted, left);
  return result<int>(-sleep_any(CLOCK_REALTIME, 0, wanted, left));
}

int clock_nanosleep(clockid_t clock, int flags, const timespec* wanted, timespec* left) {
  // For unknown clocks the C library returns the right error. Negative numbers: CPU clocks of
  // threads and processes.
  bool known = clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME ||
               clock == CLOCK_TAI || clock == CLOCK_REALTIME_ALARM ||
               clock == CLOCK_BOOTTIME_ALARM || clock == CLOCK_PROCESS_CPUTIME_ID || clock < 0;
  if (!cooperative() || !known) return real.clock_nanosleep(clock, flags, wanted, left);
  if (is_own_clock(clock)) return EINVAL;  // the time would never come
  return sleep_any(clock, flags, wanted, left);
}

int thrd_sleep(const timespec* wanted, timespec* left) {
  if (!cooperative()) return real.thrd_sleep(wanted, left);
  int r = sleep_any(CLOCK_REALTIME, 0, wanted, left);
  return r == 0 ? 0 : r == EINTR ? -1 : -2;
}

}  // namespace tendril::posix
