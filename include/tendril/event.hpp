// An event: a flag that fibers wait for. (Event in gevent, asyncio and threading)
//
//   tendril::event ready;
//   auto t = tendril::spawn([&] { ready.wait(); use(); });
//   ready.set();
//
// Any kernel thread may use it, including one without fibers. Waiters wake in the order of their
// arrival.
#pragma once

#include "detail/cxx20.hpp"

#include "detail/waiting.hpp"

namespace tendril {

class event {
 public:
  // The flag is not set.
  event() = default;
  event(const event&) = delete;
  event& operator=(const event&) = delete;

  // Whether the flag is set. Never waits.
  bool is_set() const noexcept { return set_.load(std::memory_order_acquire); }
  // Sets the flag and wakes all current waiters, even if the flag is cleared before they run. Never
  // waits.
  void set() noexcept {
    detail::held h(lock_);
    set_.store(true, std::memory_order_release);
    detail::grant_all(waiters_);
  }
  // Clears the flag: later waits last until the next set().
  void clear() noexcept {
    detail::held h(lock_);
    set_.store(false, std::memory_order_release);
  }

  // Waits until the flag is set. A cancellation point unless it is set already: throws what kill()
  // or a timeout delivers, and loop_exit if nothing can end the wait.
  [[gnu::always_inline]] void wait() { wait_until(detail::never); }
  // The same, for at most `timeout`, or until `t`. Returns whether the flag was set.
  template <class Rep, class Period>
  bool wait(std::chrono::duration<Rep, Period> timeout) {
    return wait_until(detail::later(timeout));
  }
  [[gnu::always_inline]] bool wait_until(clock::time_point t) {
    return detail::wait_until_ready(
        lock_, waiters_, [this] { return is_set(); }, t, core::wait_kind::event);
  }

  // Used by wait() in wait.hpp.
  bool watch_ready(detail::waiter& w) {
    return detail::watch(lock_, waiters_, w, [this] { return is_set(); });
  }
  void unwatch_ready(detail::waiter& w) noexcept { detail::unwatch(lock_, waiters_, w); }

 private:
  detail::biased_lock lock_;
  std::atomic<bool> set_{false};
  detail::wait_list waiters_;
};

}  // namespace tendril
