// Mutual exclusion between fibers: mutex and recursive_mutex have the interface of the standard
// library's and work with std::lock_guard, std::unique_lock and std::scoped_lock. (gevent and
// threading: Lock; RLock for the recursive one)
//
// The owner is a fiber. Any kernel thread may use it, and fibers of several kernel threads may
// share one. It is fair: unlock() hands the lock over to the first waiter, so a later caller cannot
// overtake. If that waiter was killed meanwhile, it passes the lock on. Taking a lock is a
// cancellation point only if it has to wait: it then throws what kill() or a timeout delivers, and
// loop_exit if nothing can end the wait.
//
// A std::mutex has fibers as owners, too, where libtendril.so provides pthread's locks (see
// include/README.md). Elsewhere one that a fiber holds across a wait blocks the whole kernel thread
// when a second fiber wants it; this one blocks only that fiber.
#pragma once

#include "detail/cxx20.hpp"

#include "detail/waiting.hpp"

namespace tendril {

class mutex {
 public:
  mutex() = default;
  mutex(const mutex&) = delete;
  mutex& operator=(const mutex&) = delete;

  // Takes the lock, and waits while another fiber has it. Throws `error` if the calling fiber has
  // it.
  [[gnu::always_inline]] void lock() { lock_until(detail::never); }
  // Takes the lock if it is free, and returns whether it did. Never waits.
  [[nodiscard("it tells whether the lock was taken")]] bool try_lock() {
    detail::held h(lock_);
    return take_now(core::fiber_current());
  }
  // Waits for at most `timeout`, or until `t`. Returns whether the lock was taken.
  template <class Rep, class Period>
  [[nodiscard("it tells whether the lock was taken")]] bool try_lock_for(
      std::chrono::duration<Rep, Period> timeout) {
    return try_lock() || lock_until(detail::later(timeout));
  }
  [[nodiscard("it tells whether the lock was taken")]] bool try_lock_until(clock::time_point t) {
    return lock_until(t);
  }

  // Releases the lock, or hands it over to the first waiter. Never waits. Throws `error` if the
  // calling fiber does not have it.
  void unlock() {
    detail::held h(lock_);
    if (owner() != core::fiber_current()) [[unlikely]]
      throw error("mutex: unlocked by a fiber that does not have it");
    pass_on();
  }

  // locked(): whether a fiber has the lock. owned(): whether the calling fiber has it.
  bool locked() const noexcept { return owner() != nullptr; }
  bool owned() const noexcept { return owner() == core::fiber_current(); }

 private:
  core::fiber* owner() const noexcept { return owner_.load(std::memory_order_relaxed); }
  bool take_now(core::fiber* self) noexcept {
    if (owner()) return false;
    owner_.store(self, std::memory_order_relaxed);
    return true;
  }
  void pass_on() noexcept {
    detail::waiter* next = waiters_.pop();
    owner_.store(next ? next->who : nullptr, std::memory_order_relaxed);
    if (next) detail::grant(*next);
  }
  bool lock_or_enlist(detail::waiter& w) {
    w.who = core::fiber_current();
    detail::held h(lock_);
    if (take_now(w.who)) return true;
    if (owner() == w.who) throw error("mutex: locked again by the fiber that has it");
    waiters_.push(w);
    return false;
  }
  // Inline: see core::arrival.
  [[gnu::always_inline]] bool lock_until(clock::time_point t) {
    detail::waiter w;
    if (lock_or_enlist(w)) return true;
    static constexpr auto what = detail::waits_for(core::wait_kind::lock);
    return detail::suspend(lock_, waiters_, w, t, what, [this] { unlock(); });
  }

  detail::biased_lock lock_;
  std::atomic<core::fiber*> owner_{nullptr};
  detail::wait_list waiters_;
};

// A mutex that its owner may lock again; the owner then has to unlock it as often. (gevent and
// threading: RLock)
class recursive_mutex {
 public:
  void lock() {
    if (!again()) mutex_.lock();
  }
  [[nodiscard("it tells whether the lock was taken")]] bool try_lock() {
    return again() || mutex_.try_lock();
  }
  template <class Rep, class Period>
  [[nodiscard("it tells whether the lock was taken")]] bool try_lock_for(
      std::chrono::duration<Rep, Period> timeout) {
    return again() || mutex_.try_lock_for(timeout);
  }
  [[nodiscard("it tells whether the lock was taken")]] bool try_lock_until(clock::time_point t) {
    return again() || mutex_.try_lock_until(t);
  }
  void unlock() {
    if (mutex_.owned() && extra_ > 0) extra_--;
    else mutex_.unlock();
  }
  bool locked() const noexcept { return mutex_.locked(); }
  bool owned() const noexcept { return mutex_.owned(); }

 private:
  bool again() noexcept {
    if (!mutex_.owned()) return false;
    extra_++;
    return true;
  }

  mutex mutex_;
  unsigned long extra_ = 0;  // how often the owner has locked it beyond the first time
};

}  // namespace tendril
