// Waiting for several descriptors at once: the common part of poll, select and related calls.
#pragma once

#include "posix/common/cooperate.hpp"

namespace tendril::posix {

class wait_set {
 public:
  explicit wait_set(std::size_t n) noexcept : capacity_(n) {
    w_ = n <= sizeof few_ / sizeof *few_
             ? few_
             : static_cast<core::io_waiter*>(sys::map(n * sizeof(core::io_waiter)));
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
  // Parks until one of them may be ready. 0, -ETIMEDOUT, -ECANCELED, -EINTR (any handler), or
  // -ENOMEM: some descriptor could not be watched. `bad_before` is the number of descriptors that
  // were not open at the last call, initially 0; if more are not open now, it does not park.
  // `ended` as in wait_parked().
  int wait(deadline until, std::size_t& bad_before, core::nanoseconds* ended = nullptr) noexcept;
  // The events that were reported for the i-th descriptor, in the order of add(); 0: none.
  std::uint32_t reported(std::size_t i) const noexcept { return w_[i].reported; }

 private:
  core::io_waiter* w_;
  std::size_t capacity_;
  std::size_t count_ = 0;
  core::io_waiter few_[8];
};

}  // namespace tendril::posix
