// Waiting for several descriptors at once: what poll, select and their kin share.
#pragma once

#include "cooperate.hpp"

namespace tendril::posix {

class wait_set {
 public:
  explicit wait_set(std::size_t n) noexcept : capacity_(n) {
    w_ = n <= sizeof few_ / sizeof *few_ ? few_ : static_cast<core::io_waiter*>(sys::map(n * sizeof(core::io_waiter)));
  }
  ~wait_set() {
    if (w_ != few_ && w_) sys::unmap(w_, capacity_ * sizeof(core::io_waiter));
  }
  wait_set(const wait_set&) = delete;
  bool ok() const noexcept { return w_; }

  void add(int fd, std::uint32_t events) noexcept {
    core::io_waiter& w = w_[count_++];
    w = {};
    w.who = core::current;
    w.fd = fd;
    w.events = events;
  }
  // Parks until one of them may be ready. 0, -ETIMEDOUT, -ECANCELED, -EINTR (any handler), or -ENOMEM: some
  // descriptor could not be watched.
  int wait(deadline until) noexcept;

 private:
  core::io_waiter* w_;
  std::size_t capacity_;
  std::size_t count_ = 0;
  core::io_waiter few_[8];
};

// While it lives, the kernel thread has another signal mask (ppoll, pselect, epoll_pwait, sigsuspend).
class mask_while_waiting {
 public:
  explicit mask_while_waiting(const sigset_t* mask) noexcept : set_(mask), signals_(my_hub().signals) {
    if (mask) sys::call(SYS_rt_sigprocmask, SIG_SETMASK, mask, &old_, 8);
  }
  ~mask_while_waiting() {
    if (set_) sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &old_, 0, 8);
  }
  mask_while_waiting(const mask_while_waiting&) = delete;
  // Whether a handler has run since: a signal that was pending is handled when the mask is set.
  bool handled() const noexcept { return my_hub().signals.load() != signals_; }

 private:
  bool set_;
  std::uint32_t signals_;
  std::uint64_t old_ = 0;
};

}  // namespace tendril::posix
