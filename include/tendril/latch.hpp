// A latch: fibers wait until a counter has reached zero, once. (std::latch, Go's WaitGroup)
//
// Any kernel thread may use it, including one without fibers. Waiters wake in the order of their
// arrival.
#pragma once

#include "detail/cxx20.hpp"

#include <cstddef>

#include "event.hpp"

namespace tendril {

class latch {
 public:
  // A latch whose counter starts at `count`; throws `error` if it is negative.
  explicit latch(std::ptrdiff_t count) : count_(count) {
    if (count < 0) throw error("latch: the count is negative");
    if (count == 0) zero_.set();
  }

  // Subtracts n from the counter; the call that reaches zero wakes all waiters. Never waits. Throws
  // `error` if n is negative or the counter would go below zero. (std::latch)
  void count_down(std::ptrdiff_t n = 1) {
    std::ptrdiff_t before = count_.load(std::memory_order_relaxed);
    do {
      if (n < 0 || n > before) throw error("latch: counted down below zero");
    } while (!count_.compare_exchange_weak(before, before - n, std::memory_order_acq_rel));
    if (before == n && n > 0) zero_.set();
  }
  // Whether the counter is at zero.
  [[nodiscard]] bool try_wait() const noexcept { return zero_.is_set(); }
  // Waits until the counter is at zero. A cancellation point unless it is already: throws what
  // kill() or a timeout delivers, and loop_exit if nothing can end the wait.
  void wait() { zero_.wait(); }
  // The same, for at most `timeout`. Returns whether the counter is at zero.
  template <class Rep, class Period>
  bool wait(std::chrono::duration<Rep, Period> timeout) {
    return zero_.wait(timeout);
  }
  // count_down(n), then wait().
  void arrive_and_wait(std::ptrdiff_t n = 1) {
    count_down(n);
    wait();
  }

  // Used by wait() in wait.hpp.
  bool watch_ready(detail::waiter& w) { return zero_.watch_ready(w); }
  void unwatch_ready(detail::waiter& w) noexcept { zero_.unwatch_ready(w); }

 private:
  std::atomic<std::ptrdiff_t> count_;
  event zero_;
};

}  // namespace tendril
