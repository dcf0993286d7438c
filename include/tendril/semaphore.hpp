// A semaphore: a number of permits that fibers take and give back. (std::counting_semaphore;
// Semaphore in gevent and threading, which name the operations acquire and release)
//
//   tendril::semaphore at_once(10);
//   at_once.acquire();
//   ...
//   at_once.release();
//
// Any kernel thread may use it, including one without fibers. A permit may be given back by another
// fiber or thread than the one that took it. Permits go to the waiters in the order of their
// arrival; a later caller cannot overtake. If a fiber is killed after a permit was granted to it,
// the permit goes to the next waiter. A semaphore satisfies Lockable, so a std::lock_guard holds a
// permit.
#pragma once

#include "detail/cxx20.hpp"

#include <cstddef>
#include <limits>

#include "detail/waiting.hpp"

namespace tendril {

class semaphore {
 public:
  // A semaphore with `permits` permits; throws `error` if the number is negative. (The default is
  // gevent's.)
  explicit semaphore(std::ptrdiff_t permits = 1)
      : semaphore(permits, std::numeric_limits<std::ptrdiff_t>::max()) {}
  semaphore(const semaphore&) = delete;
  semaphore& operator=(const semaphore&) = delete;

  // The number of permits that can be taken now.
  std::ptrdiff_t value() const noexcept { return permits_.load(std::memory_order_relaxed); }
  // Whether there is no permit, so that acquire() would wait.
  bool locked() const noexcept { return value() == 0; }

  // Takes a permit, and waits while there is none. A cancellation point only if it has to wait:
  // throws what kill() or a timeout delivers, and loop_exit if nothing can end the wait.
  [[gnu::always_inline]] void acquire() { take(detail::never); }
  // The same, for at most `timeout`, or until `t`. Returns whether it took a permit.
  template <class Rep, class Period>
  [[nodiscard("it tells whether a permit was taken")]] bool acquire(
      std::chrono::duration<Rep, Period> timeout) {
    return try_acquire() || take(detail::later(timeout));
  }
  template <class Rep, class Period>
  [[nodiscard("it tells whether a permit was taken")]] bool try_acquire_for(
      std::chrono::duration<Rep, Period> timeout) {
    return acquire(timeout);
  }
  [[nodiscard("it tells whether a permit was taken")]] bool try_acquire_until(clock::time_point t) {
    return take(t);
  }
  // Takes a permit if there is one, and returns whether it did. Never waits.
  [[nodiscard("it tells whether a permit was taken")]] bool try_acquire() noexcept {
    detail::held h(lock_);
    return take_now();
  }

  // Gives n permits back and wakes up to n waiters. Never waits. Throws `error` if n is negative,
  // or if a bounded_semaphore would have more permits than initially.
  [[gnu::always_inline]] void release(std::ptrdiff_t n = 1) {
    detail::held h(lock_);
    // While a fiber waits, there are no permits.
    if (n == 1 && most_ > 0 && !waiters_.empty()) [[likely]]
      detail::grant_fiber(*waiters_.pop());
    else give_back(n);
  }

  // Waits until there is a permit, without taking it; with a time-out, returns whether there was
  // one in time. A cancellation point. (gevent: wait)
  void wait() { wait_until(detail::never); }
  template <class Rep, class Period>
  bool wait(std::chrono::duration<Rep, Period> timeout) {
    return wait_until(detail::later(timeout));
  }
  bool wait_until(clock::time_point t) {
    return detail::wait_until_ready(
        lock_, watchers_, [this] { return value() > 0; }, t, core::wait_kind::lock);
  }

  // The interface of std::lock_guard and std::unique_lock.
  void lock() { acquire(); }
  [[nodiscard("it tells whether a permit was taken")]] bool try_lock() noexcept {
    return try_acquire();
  }
  void unlock() { release(); }

  // Used by wait() in wait.hpp.
  bool watch_ready(detail::waiter& w) {
    return detail::watch(lock_, watchers_, w, [this] { return value() > 0; });
  }
  void unwatch_ready(detail::waiter& w) noexcept { detail::unwatch(lock_, watchers_, w); }

 protected:
  semaphore(std::ptrdiff_t permits, std::ptrdiff_t most) : permits_(permits), most_(most) {
    if (permits < 0) throw error("semaphore: the number of permits is negative");
  }

 private:
  void give_back(std::ptrdiff_t n) {
    std::ptrdiff_t free = value();
    if (n < 0 || n > most_ - free) [[unlikely]]
      throw error("semaphore: more permits released than its maximum");
    free += n;
    while (free > 0 && !waiters_.empty()) {
      free--;
      detail::grant(*waiters_.pop());
    }
    permits_.store(free, std::memory_order_relaxed);
    if (free > 0) detail::grant_all(watchers_);
  }
  // Invariant: there are permits only while no fiber waits.
  bool take_now() noexcept {
    std::ptrdiff_t free = value();
    if (free == 0) return false;
    permits_.store(free - 1, std::memory_order_relaxed);
    return true;
  }
  [[gnu::always_inline]] bool take(clock::time_point t) {  // inline: see core::arrival
    detail::held h(lock_);
    if (take_now()) return true;
    detail::waiter w(core::fiber_current());
    waiters_.push(w);
    h.release();
    static constexpr auto what = detail::waits_for(core::wait_kind::lock);
    return detail::suspend(lock_, waiters_, w, t, what, [this] { release(); });
  }

  detail::biased_lock lock_;
  std::atomic<std::ptrdiff_t> permits_;
  std::ptrdiff_t most_;
  detail::wait_list waiters_;
  detail::wait_list watchers_;
};

// A semaphore that never has more permits than initially: a surplus release() throws `error`.
// (gevent: BoundedSemaphore)
class bounded_semaphore : public semaphore {
 public:
  explicit bounded_semaphore(std::ptrdiff_t permits = 1) : semaphore(permits, permits) {}
};

}  // namespace tendril
