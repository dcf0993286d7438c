// What is pending for the running thread alone waits in the runtime
// (lib/scheduler/signal_delivery.hpp), where the kernel's own ways to look for it would not find
// it: a signalfd(2), read, polled or in an epoll instance. So it is lent to the kernel for the
// length of a system call that does not wait, in which nothing else runs.
#pragma once

#include "posix/common/cooperate.hpp"

namespace tendril::posix {

inline bool signals_to_lend() noexcept {
  return core::current && core::current->storage->signals.pending;
}

class signalfd_loan {
 public:
  // `mask`: what the call blocks meanwhile; null: what the thread does.
  explicit signalfd_loan(const sigset_t* mask = nullptr) noexcept {
    if (signals_to_lend()) [[unlikely]]
      lend(mask);
  }
  ~signalfd_loan() {
    if (lent_) [[unlikely]]
      take_back();
  }
  signalfd_loan(const signalfd_loan&) = delete;
  // The call has read n bytes, of a signalfd perhaps: those it tells of are gone.
  void have_been_read(const iovec* v, long n) noexcept {
    if (lent_ && n > 0) [[unlikely]]
      forget(v, n);
  }

 private:
  void lend(const sigset_t* mask) noexcept;
  void take_back() noexcept;
  void forget(const iovec* v, long n) noexcept;
  bool lent_ = false;
};

}  // namespace tendril::posix
