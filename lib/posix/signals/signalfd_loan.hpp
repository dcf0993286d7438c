// Signals that are pending for the running thread alone wait in the runtime
// (lib/scheduler/signal_delivery.hpp), where the kernel does not find them for a signalfd(2) that
// is read, polled or in an epoll instance. So the runtime lends them to the kernel during a system
// call that does not wait; nothing else runs meanwhile.
#pragma once

#include "posix/common/cooperate.hpp"

namespace tendril::posix {

inline bool signals_to_lend() noexcept {
  return core::current && core::current->storage->signals.pending;
}

class signalfd_loan {
 public:
  // `mask`: what the call blocks meanwhile; null: the thread's own mask.
  explicit signalfd_loan(const sigset_t* mask = nullptr) noexcept {
    if (signals_to_lend()) [[unlikely]]
      lend(mask);
  }
  ~signalfd_loan() {
    if (loaned_) [[unlikely]]
      take_back();
  }
  signalfd_loan(const signalfd_loan&) = delete;
  // The call has read n bytes, perhaps from a signalfd: removes the signals that they report.
  void have_been_read(const iovec* v, long n) noexcept {
    if (loaned_ && n > 0) [[unlikely]]
      forget(v, n);
  }

 private:
  void lend(const sigset_t* mask) noexcept;
  void take_back() noexcept;
  void forget(const iovec* v, long n) noexcept;
  bool loaned_ = false;
};

}  // namespace tendril::posix
