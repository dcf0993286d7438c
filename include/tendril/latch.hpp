// A latch: fibers wait until something has been counted down to zero, once. As std::latch; Go's
// WaitGroup.
//
// Any kernel thread may use it, one without fibers too. Waiters wake in the order in which they
// came.
#pragma once

#include <cstddef>

#include "event.hpp"

namespace tendril {

class latch {
 public:
  // To be counted down from `count`, 0 or more.
  explicit latch(std::ptrdiff_t count) : count_(count) {
    if (count < 0) throw error("latch: a negative count");
    if (count == 0) zero_.set();
  }

  // Counts down; whoever reaches zero wakes all waiters. Never waits. error if it would go below
  // zero.
  void count_down(std::ptrdiff_t n = 1) {
    std::ptrdiff_t before = count_.load(std::memory_order_relaxed);
    do {
      if (n < 0 || n > before) throw error("latch: counted down below zero");
    } while (!count_.compare_exchange_weak(before, before - n, std::memory_order_acq_rel));
    if (before == n && n > 0) zero_.set();
  }
  // Whether it is at zero.
  bool try_wait() const noexcept { return zero_.is_set(); }
  // Waits until it is at zero. A cancellation point, unless it is already.
  void wait() { zero_.wait(); }
  // The same, for at most `timeout`; returns whether it is.
  template <class Rep, class Period>
  bool wait(std::chrono::duration<Rep, Period> timeout) {
    return zero_.wait(timeout);
  }
  void arrive_and_wait(std::ptrdiff_t n = 1) {
    count_down(n);
    wait();
  }

  // For wait() in wait.hpp.
  bool watch_ready(detail::waiter& w) { return zero_.watch_ready(w); }
  void unwatch_ready(detail::waiter& w) noexcept { zero_.unwatch_ready(w); }

 private:
  std::atomic<std::ptrdiff_t> count_;
  event zero_;
};

}  // namespace tendril
