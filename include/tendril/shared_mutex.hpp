// A lock that either one writer or many readers hold. It has the interface of std::shared_mutex and
// works with std::shared_lock and std::unique_lock.
//
// Any kernel thread may use it, and fibers of several kernel threads may share one. Waiters are
// served in the order of their arrival; consecutive readers are admitted together. A reader that
// arrives while a writer waits is queued behind it, so no waiter starves. The lock does not record
// its holders: the caller must unlock only what it has locked. Waiting is a cancellation point: it
// throws what kill() or a timeout delivers, and loop_exit if nothing can end it.
#pragma once

#include "detail/cxx20.hpp"

#include "detail/waiting.hpp"

namespace tendril {

class shared_mutex {
 public:
  shared_mutex() = default;
  shared_mutex(const shared_mutex&) = delete;
  shared_mutex& operator=(const shared_mutex&) = delete;

  // For one writer. lock() waits until no fiber holds the lock; try_lock() never waits. With a
  // time-out, returns whether the lock was taken in time. unlock() throws `error` if no writer
  // holds the lock.
  void lock() { take(true, detail::never); }
  [[nodiscard("it tells whether the lock was taken")]] bool try_lock() noexcept {
    return try_take(true);
  }
  template <class Rep, class Period>
  [[nodiscard("it tells whether the lock was taken")]] bool try_lock_for(
      std::chrono::duration<Rep, Period> timeout) {
    return try_take(true) || take(true, detail::later(timeout));
  }
  [[nodiscard("it tells whether the lock was taken")]] bool try_lock_until(clock::time_point t) {
    return take(true, t);
  }
  void unlock() {
    detail::held h(lock_);
    if (!writer_) throw error("shared_mutex: unlock() while no writer holds it");
    writer_ = false;
    pass_on();
  }

  // For readers. lock_shared() waits until no writer holds the lock or waits ahead of the caller;
  // try_lock_shared() never waits. With a time-out, returns whether the lock was taken in time.
  // unlock_shared() throws `error` if no reader holds the lock.
  void lock_shared() { take(false, detail::never); }
  [[nodiscard("it tells whether the lock was taken")]] bool try_lock_shared() noexcept {
    return try_take(false);
  }
  template <class Rep, class Period>
  [[nodiscard("it tells whether the lock was taken")]] bool try_lock_shared_for(
      std::chrono::duration<Rep, Period> timeout) {
    return try_take(false) || take(false, detail::later(timeout));
  }
  [[nodiscard("it tells whether the lock was taken")]] bool try_lock_shared_until(
      clock::time_point t) {
    return take(false, t);
  }
  void unlock_shared() {
    detail::held h(lock_);
    if (readers_ == 0) throw error("shared_mutex: unlock_shared() while no reader holds it");
    readers_--;
    pass_on();
  }

 private:
  struct applicant : detail::waiter {
    bool writes = false;
  };

  bool admit(bool writes) noexcept {
    if (writer_ || (writes && readers_ > 0)) return false;
    if (writes) writer_ = true;
    else readers_++;
    return true;
  }
  bool take_now(bool writes) noexcept { return waiters_.empty() && admit(writes); }
  bool try_take(bool writes) noexcept {
    detail::held h(lock_);
    return take_now(writes);
  }
  void pass_on() noexcept {
    while (!waiters_.empty() && admit(static_cast<applicant*>(waiters_.front())->writes))
      detail::grant(*waiters_.pop());
  }
  bool take(bool writes, clock::time_point t) {
    applicant w;
    w.writes = writes;
    w.who = core::fiber_current();
    {
      detail::held h(lock_);
      if (take_now(writes)) return true;
      waiters_.push(w);
    }
    static constexpr auto what = detail::waits_for(core::wait_kind::lock);
    // If a writer gives up, the readers queued behind it may be admitted.
    struct given_up {
      shared_mutex& m;
      applicant& w;
      ~given_up() {
        if (w.is_granted()) return;
        detail::held h(m.lock_);
        m.pass_on();
      }
    } guard{*this, w};
    return detail::suspend(lock_, waiters_, w, t, what,
                           [&] { writes ? unlock() : unlock_shared(); });
  }

  detail::biased_lock lock_;
  bool writer_ = false;
  unsigned long readers_ = 0;
  detail::wait_list waiters_;
};

}  // namespace tendril
