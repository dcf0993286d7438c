// A lock that many readers or one writer may have, as std::shared_mutex, for std::shared_lock and
// std::unique_lock.
//
// Fibers of several kernel threads may share one. Fair: who waits is served in the order in which
// they came, readers that follow each other together; so a reader that comes while a writer waits,
// waits behind it, and nobody starves. It does not know who has it: unlocking is the business of
// whoever locked.
#pragma once

#include "detail/waiting.hpp"

namespace tendril {

class shared_mutex {
 public:
  shared_mutex() = default;
  shared_mutex(const shared_mutex&) = delete;
  shared_mutex& operator=(const shared_mutex&) = delete;

  // For one writer. Waits until nobody has it; at most until a time-out, and returns whether it was
  // taken then.
  void lock() { take(true, detail::never); }
  bool try_lock() noexcept { return try_take(true); }
  template <class Rep, class Period>
  bool try_lock_for(std::chrono::duration<Rep, Period> timeout) {
    return try_take(true) || take(true, detail::later(timeout));
  }
  bool try_lock_until(clock::time_point t) { return take(true, t); }
  void unlock() {
    detail::held h(exclusion_);
    if (!writer_) throw error("shared_mutex: unlocked by a writer although none has it");
    writer_ = false;
    pass_on();
  }

  // For readers. Waits until no writer has it, nor waits before us.
  void lock_shared() { take(false, detail::never); }
  bool try_lock_shared() noexcept { return try_take(false); }
  template <class Rep, class Period>
  bool try_lock_shared_for(std::chrono::duration<Rep, Period> timeout) {
    return try_take(false) || take(false, detail::later(timeout));
  }
  bool try_lock_shared_until(clock::time_point t) { return take(false, t); }
  void unlock_shared() {
    detail::held h(exclusion_);
    if (readers_ == 0) throw error("shared_mutex: unlocked by a reader although none has it");
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
    detail::held h(exclusion_);
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
      detail::held h(exclusion_);
      if (take_now(writes)) return true;
      waiters_.push(w);
    }
    static constexpr auto what = detail::waits_for(core::wait_kind::lock);
    // Readers behind a writer that gives up may go on.
    struct given_up {
      shared_mutex& m;
      applicant& w;
      ~given_up() {
        if (w.is_granted()) return;
        detail::held h(m.exclusion_);
        m.pass_on();
      }
    } guard{*this, w};
    return detail::suspend(exclusion_, waiters_, w, t, what,
                           [&] { writes ? unlock() : unlock_shared(); });
  }

  detail::exclusion exclusion_;
  bool writer_ = false;
  unsigned long readers_ = 0;
  detail::wait_list waiters_;
};

}  // namespace tendril
