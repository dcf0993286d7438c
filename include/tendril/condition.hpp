// A condition variable, as std::condition_variable_any: wait() releases the lock (any type with
// lock() and unlock()), waits for a notification, and takes the lock again. (gevent and threading:
// Condition)
//
//   std::unique_lock lock(mutex);
//   changed.wait(lock, [&] { return !items.empty(); });
//
// Any kernel thread may use it; fibers of several kernel threads may share one if they share the
// lock. Waiters are notified in the order of their arrival. There are no spurious wake-ups. If a
// fiber is killed after it was notified, the notification goes to the next waiter. Every wait
// returns or throws with the lock held; a kill or a time-out does not interrupt taking it.
#pragma once

#include "detail/cxx20.hpp"

#include <condition_variable>

#include "detail/waiting.hpp"

namespace tendril {

class condition {
 public:
  condition() = default;
  condition(const condition&) = delete;
  condition& operator=(const condition&) = delete;

  // Wakes the first waiter, or the first n. Never waits. The caller need not hold the lock.
  void notify_one() noexcept { notify(1); }
  void notify(std::size_t n) noexcept {
    detail::held h(lock_);
    for (; n > 0 && !waiters_.empty(); n--) detail::grant(*waiters_.pop());
  }
  // Wakes all current waiters. Never waits. The caller need not hold the lock.
  void notify_all() noexcept {
    detail::held h(lock_);
    detail::grant_all(waiters_);
  }

  // Waits for a notification. The caller must hold the lock. A cancellation point: throws what
  // kill() or a timeout delivers, and loop_exit if nothing can end the wait.
  template <class Lock>
  void wait(Lock& lock) {
    wait_for_notification(lock, detail::never);
  }
  // Waits until the predicate is true. The predicate is called with the lock held.
  template <class Lock, class Predicate>
    requires std::predicate<Predicate&>
  void wait(Lock& lock, Predicate holds) {
    while (!holds()) wait(lock);
  }
  // The same, for at most `timeout`, or until `t`. Without a predicate, returns
  // std::cv_status::timeout if no notification came; with one, returns the predicate's value.
  template <class Lock>
  std::cv_status wait_until(Lock& lock, clock::time_point t) {
    return wait_for_notification(lock, t) ? std::cv_status::no_timeout : std::cv_status::timeout;
  }
  template <class Lock, class Predicate>
    requires std::predicate<Predicate&>
  bool wait_until(Lock& lock, clock::time_point t, Predicate holds) {
    while (!holds()) {
      if (!wait_for_notification(lock, t)) return holds();
    }
    return true;
  }
  template <class Lock, class Rep, class Period>
  std::cv_status wait_for(Lock& lock, std::chrono::duration<Rep, Period> timeout) {
    return wait_until(lock, detail::later(timeout));
  }
  template <class Lock, class Rep, class Period, class Predicate>
    requires std::predicate<Predicate&>
  bool wait_for(Lock& lock, std::chrono::duration<Rep, Period> timeout, Predicate holds) {
    return wait_until(lock, detail::later(timeout), std::move(holds));
  }

 private:
  template <class Lock>
  bool wait_for_notification(Lock& lock, clock::time_point t) {
    detail::waiter w;
    w.who = core::fiber_current();
    {
      detail::held h(lock_);
      waiters_.push(w);
    }
    // The waiter is listed before the lock is released, so no notification is missed.
    try {
      lock.unlock();
    } catch (...) {
      detail::held h(lock_);
      if (!w.is_granted()) waiters_.remove(w);
      throw;
    }
    struct relock {
      Lock& lock;
      ~relock() noexcept(false) {
        detail::uninterrupted guard;
        lock.lock();
      }
    } guard{lock};
    static constexpr auto what = detail::waits_for(core::wait_kind::event);
    return detail::suspend(lock_, waiters_, w, t, what, [this] { notify_one(); });
  }

  detail::biased_lock lock_;
  detail::wait_list waiters_;
};

}  // namespace tendril
