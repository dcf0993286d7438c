// aio_suspend(3). The C library's threads do the work, and tell of its end nobody but who waits there in the kernel: on
// behalf of a fiber it is asked for again and again.
#include <tendril/posix.hpp>

#include <algorithm>

#include "cooperate.hpp"

namespace tendril::posix {

int aio_suspend(const aiocb* const* list, int n, const timespec* timeout) {
  if (!cooperative() || !valid(timeout)) return real.aio_suspend(list, n, timeout);
  constexpr timespec at_once{.tv_sec = 0, .tv_nsec = 0};
  deadline until = time_from_now(timeout);
  core::wait_info what;
  what.remote = what.interruptible = true;
  int saved = errno;
  for (core::nanoseconds pause = 50'000;; pause = pause < 5'000'000 ? pause * 2 : pause) {
    int r = real.aio_suspend(list, n, &at_once);
    core::nanoseconds now = core::now();
    if (r == 0) errno = saved;
    if (r == 0 || errno != EAGAIN || until.passed(now)) return r;
    r = wait_parked(what, deadline{std::min(until.at, now + pause)}, on_signal::always);
    if (r < 0 && r != -ETIMEDOUT) return result<int>(r);
  }
}

}  // namespace tendril::posix
