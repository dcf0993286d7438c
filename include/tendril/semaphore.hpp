// A semaphore: a number of permits that fibers take and give back. As std::counting_semaphore;
// gevent's names (threading's too) are acquire and release.
//
//   tendril::semaphore at_once(10);
//   at_once.acquire();
//   ...
//   at_once.release();
//
// Any kernel thread may use it, one without fibers too, and a permit may be given back by another
// than the one who took it. Fair: permits go to the waiters in the order in which they came, and
// nobody who comes later overtakes them. A permit that was meant for a fiber which was killed
// meanwhile goes to the next. It satisfies Lockable, so std::lock_guard holds a permit.
#pragma once

#include <cstddef>
#include <limits>

#include "detail/waiting.hpp"

namespace tendril {

class semaphore {
 public:
  // With so many permits, 0 or more. (gevent's default is one)
  explicit semaphore(std::ptrdiff_t permits = 1)
      : semaphore(permits, std::numeric_limits<std::ptrdiff_t>::max()) {}
  semaphore(const semaphore&) = delete;
  semaphore& operator=(const semaphore&) = delete;

  // The permits that are there now.
  std::ptrdiff_t value() const noexcept { return permits_.load(std::memory_order_relaxed); }
  // Whether there are none, so that acquire() would wait.
  bool locked() const noexcept { return value() == 0; }

  // Takes a permit; waits for one if there is none. A cancellation point only if it waits.
  [[gnu::always_inline]] void acquire() { take(detail::never); }
  // The same, for at most `timeout`, or until `t`; returns whether it got one.
  template <class Rep, class Period>
  bool acquire(std::chrono::duration<Rep, Period> timeout) {
    return try_acquire() || take(detail::later(timeout));
  }
  template <class Rep, class Period>
  bool try_acquire_for(std::chrono::duration<Rep, Period> timeout) {
    return acquire(timeout);
  }
  bool try_acquire_until(clock::time_point t) { return take(t); }
  // Takes a permit if there is one. Never waits.
  bool try_acquire() noexcept {
    detail::held h(exclusion_);
    return take_now();
  }

  // Gives n permits back, and wakes as many waiters. Never waits. error if there would be more than
  // a bounded_semaphore began with.
  [[gnu::always_inline]] void release(std::ptrdiff_t n = 1) {
    detail::held h(exclusion_);
    // While somebody waits, there are no permits.
    if (n == 1 && most_ > 0 && !waiters_.empty()) [[likely]]
      detail::grant_fiber(*waiters_.pop());
    else give_back(n);
  }

  // Waits until there is a permit, without taking it; returns whether there was one in time.
  // (gevent: wait)
  void wait() { wait_until(detail::never); }
  template <class Rep, class Period>
  bool wait(std::chrono::duration<Rep, Period> timeout) {
    return wait_until(detail::later(timeout));
  }
  bool wait_until(clock::time_point t) {
    return detail::wait_until_ready(
        exclusion_, watchers_, [this] { return value() > 0; }, t, core::wait_kind::lock);
  }

  // For std::lock_guard and std::unique_lock.
  void lock() { acquire(); }
  bool try_lock() noexcept { return try_acquire(); }
  void unlock() { release(); }

  // For wait() in wait.hpp.
  bool watch_ready(detail::waiter& w) {
    return detail::watch(exclusion_, watchers_, w, [this] { return value() > 0; });
  }
  void unwatch_ready(detail::waiter& w) noexcept { detail::unwatch(exclusion_, watchers_, w); }

 protected:
  semaphore(std::ptrdiff_t permits, std::ptrdiff_t most) : permits_(permits), most_(most) {
    if (permits < 0) throw error("semaphore: a negative number of permits");
  }

 private:
  void give_back(std::ptrdiff_t n) {
    std::ptrdiff_t free = value();
    if (n < 0 || n > most_ - free) [[unlikely]]
      throw error("semaphore: more permits released than there may be");
    free += n;
    while (free > 0 && !waiters_.empty()) {
      free--;
      detail::grant(*waiters_.pop());
    }
    permits_.store(free, std::memory_order_relaxed);
    if (free > 0) detail::grant_all(watchers_);
  }
  // There are permits only while nobody waits.
  bool take_now() noexcept {
    std::ptrdiff_t free = value();
    if (free == 0) return false;
    permits_.store(free - 1, std::memory_order_relaxed);
    return true;
  }
  [[gnu::always_inline]] bool take(clock::time_point t) {  // inline: see core::arrival
    detail::held h(exclusion_);
    if (take_now()) return true;
    detail::waiter w(core::fiber_current());
    waiters_.push(w);
    h.release();
    static constexpr auto what = detail::waits_for(core::wait_kind::lock);
    return detail::suspend(exclusion_, waiters_, w, t, what, [this] { release(); });
  }

  detail::exclusion exclusion_;
  std::atomic<std::ptrdiff_t> permits_;
  std::ptrdiff_t most_;
  detail::wait_list waiters_;
  detail::wait_list watchers_;
};

// A semaphore that never has more permits than it began with: a release too many throws error.
// (gevent: BoundedSemaphore)
class bounded_semaphore : public semaphore {
 public:
  explicit bounded_semaphore(std::ptrdiff_t permits = 1) : semaphore(permits, permits) {}
};

}  // namespace tendril
