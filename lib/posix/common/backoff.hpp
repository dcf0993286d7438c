// Waits that nothing wakes, because the change comes from another process or from inside the C
// library: the fiber polls, with pauses that grow to five milliseconds.
#pragma once

#include "posix/common/cooperate.hpp"

namespace tendril::posix {

// Calls done() until it returns true. Returns false when the deadline has passed. Requires
// may_wait().
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
