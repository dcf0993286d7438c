// An event: a flag that fibers wait for. What gevent, asyncio and threading call Event.
//
//   tendril::event ready;
//   auto t = tendril::spawn([&] { ready.wait(); use(); });
//   ready.set();
//
// Any kernel thread may use it, one without fibers too. Waiters wake in the order in which they
// came.
#pragma once

#include "detail/waiting.hpp"

namespace tendril {

class event {
 public:
  // Not set.
  event() = default;
  event(const event&) = delete;
  event& operator=(const event&) = delete;

  bool is_set() const noexcept { return set_.load(std::memory_order_acquire); }
  // Sets the flag and wakes everybody who waits now, even if it is cleared before they run.
  void set() noexcept {
    detail::held h(exclusion_);
    set_.store(true, std::memory_order_release);
    detail::grant_all(waiters_);
  }
  // Whoever waits from now on waits for the next set().
  void clear() noexcept {
    detail::held h(exclusion_);
    set_.store(false, std::memory_order_release);
  }

  // Waits until the flag is set. A cancellation point, unless it is set already.
  [[gnu::always_inline]] void wait() { wait_until(detail::never); }
  // The same, for at most `timeout`, or until `t`; returns whether it was set.
  template <class Rep, class Period>
  bool wait(std::chrono::duration<Rep, Period> timeout) {
    return wait_until(detail::later(timeout));
  }
  [[gnu::always_inline]] bool wait_until(clock::time_point t) {
    return detail::wait_until_ready(
        exclusion_, waiters_, [this] { return is_set(); }, t, core::wait_kind::event);
  }

  // For wait() in wait.hpp.
  bool watch_ready(detail::waiter& w) {
    return detail::watch(exclusion_, waiters_, w, [this] { return is_set(); });
  }
  void unwatch_ready(detail::waiter& w) noexcept { detail::unwatch(exclusion_, waiters_, w); }

 private:
  detail::exclusion exclusion_;
  std::atomic<bool> set_{false};
  detail::wait_list waiters_;
};

}  // namespace tendril
