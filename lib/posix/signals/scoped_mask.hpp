// For calls that wait with a signal mask of their own.
#pragma once

#include "posix/common/cooperate.hpp"

namespace tendril::posix {

// While this lives, the thread has another signal mask (ppoll, pselect, epoll_pwait, sigsuspend).
// If several fibers do this at once for one thread, the last one restores the mask from before the
// first. A pending signal that the new mask lets through is handled at once, and interrupted()
// counts it.
class mask_while_waiting {
 public:
  explicit mask_while_waiting(const sigset_t* mask) noexcept {
    if (!mask) return;
    hub& h = my_hub();
    core::signal_state& s = core::current->storage->signals;
    if (!sys::readable(mask, 8)) {
      error_ = -EFAULT;
      return;
    }
    core::handlers_deferred quiet;
    set_ = true;
    nested_ = core::current->masked;
    if (nested_) {
      before_ = h.signals.own_mask();
    } else {
      core::current->masked = true;
      if (s.masked++ == 0) s.mask_before = h.signals.own_mask();
    }
    std::uint64_t wanted;
    __builtin_memcpy(&wanted, mask, sizeof wanted);
    h.signals.set_mask(wanted);
  }
  ~mask_while_waiting() {
    if (!set_) return;
    core::signal_state& s = core::current->storage->signals;
    core::handlers_deferred quiet;
    if (nested_) {
      my_hub().signals.set_mask(before_);
      return;
    }
    core::current->masked = false;
    if (--s.masked == 0) my_hub().signals.set_mask(s.mask_before);
  }
  mask_while_waiting(const mask_while_waiting&) = delete;
  int error() const noexcept { return error_; }  // -EFAULT

 private:
  bool set_ = false;
  bool nested_ = false;  // in a handler that has interrupted such a wait
  std::uint64_t before_ = 0;
  int error_ = 0;
};

}  // namespace tendril::posix
