// A section of code in which the calling kernel thread blocks all signals.
#pragma once

#include "base/sys.hpp"

namespace tendril::core {

// While an object of this class lives, no handler runs on its kernel thread, those of the runtime's
// own signal included. (handlers_deferred, which makes no system call, keeps away the program's
// handlers alone.) If `needed` is false, it does nothing.
class all_signals_blocked {
 public:
  explicit all_signals_blocked(bool needed = true) noexcept : needed_(needed) {
    if (needed_) mask_ = set_mask(~0ULL);
  }
  ~all_signals_blocked() {
    if (needed_) set_mask(mask_);
  }
  all_signals_blocked(const all_signals_blocked&) = delete;

 private:
  // Returns the previous mask.
  [[gnu::noinline]] static std::uint64_t set_mask(std::uint64_t mask) noexcept {
    std::uint64_t old = 0;
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &old, 8);
    return old;
  }

  bool needed_;
  std::uint64_t mask_ = 0;
};

}  // namespace tendril::core
