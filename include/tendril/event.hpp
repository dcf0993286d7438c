// An event: a flag that fibers wait for. What gevent, asyncio and threading call Event.
//
//   tendril::event ready;
//   auto t = tendril::spawn([&] { ready.wait(); use(); });
//   ready.set();
//
// Any kernel thread may use it, one without fibers too. Waiters wake in the order in which they came.
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
  void wait() { wait_until(detail::never); }
  // The same, for at most `timeout`, or until `t`; returns whether it was set.
  template <class Rep, class Period>
  bool wait(std::chrono::duration<Rep, Period> timeout) {
    return wait_until(detail::later(timeout));
  }
  bool wait_until(clock::time_point t) {
    detail::waiter w;
    if (!watch_ready(w)) return true;
    auto what = detail::waits_for(core::wait_kind::event);
    return detail::suspend(exclusion_, waiters_, w, t, what, [] {});
  }

  // For wait() in wait.hpp.
  bool watch_ready(detail::waiter& w) {
    if (!w.notify) w.who = core::fiber_current();
    detail::held h(exclusion_);
    if (is_set()) return false;
    waiters_.push(w);
    return true;
  }
  void unwatch_ready(detail::waiter& w) noexcept {
    detail::held h(exclusion_);
    if (!w.is_granted()) waiters_.remove(w);
  }

 private:
  detail::exclusion exclusion_;
  std::atomic<bool> set_{false};
  detail::wait_list waiters_;
};

}  // namespace tendril
