// Waiting for what nobody tells us of: other processes' locks, and what the C library does by
// itself. The fiber asks again and again, with pauses that grow to five milliseconds.
#pragma once

#include "posix/common/cooperate.hpp"

namespace tendril::posix {

// Calls done() until it is true; false: the time is over. The caller may wait (see may_wait()).
template <class Done>
bool retry_until(deadline until, const void* target, Done done) noexcept {
  core::wait_info what;
  what.kind = core::wait_kind::lock;
  what.target = target;
  what.wakeable_by_system = what.uninterruptible = what.interruptible = true;
  for (core::nanoseconds pause = 50'000;; pause = pause < 5'000'000 ? pause * 2 : pause) {
    if (done()) return true;
    core::nanoseconds t = core::now();
    if (until.passed(t)) return false;
    deadline next = deadline::after(t, pause);
    forget_signals();
    wait_parked(what, next.at < until.at ? next : until, on_signal::restart);
  }
}

}  // namespace tendril::posix
