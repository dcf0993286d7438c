// A lock between kernel threads for the runtime's own short sections. It is a futex and not a
// pthread mutex, since the shim interposes those.
#pragma once

#include "base/atomic.hpp"
#include "base/sys.hpp"

namespace tendril::core {

class futex_lock {
 public:
  void lock() noexcept {
    std::uint32_t free = 0;
    if (word_.compare_exchange_strong(free, 1, std::memory_order_acquire)) return;
    while (word_.exchange(2, std::memory_order_acquire) != 0) sys::futex_wait(&word_, 2);
  }
  void unlock() noexcept {
    if (word_.exchange(0, std::memory_order_release) == 2) sys::futex_wake(&word_, 1);
  }
  bool is_held() const noexcept { return word_.load(std::memory_order_relaxed) != 0; }

 private:
  atomic<std::uint32_t> word_{0};  // 0: free, 1: held, 2: held, with waiters
};

class futex_guard {
 public:
  explicit futex_guard(futex_lock& l) noexcept : lock_(l) { lock_.lock(); }
  ~futex_guard() { lock_.unlock(); }
  futex_guard(const futex_guard&) = delete;

 private:
  futex_lock& lock_;
};

// The same for sections of a few instructions, in which kernel threads hardly ever collide:
// unlocking is a plain store.
class spin_lock {
 public:
  void lock() noexcept {
    for (unsigned tries = 0; held_.exchange(true, std::memory_order_acquire); tries++) {
      if (tries < 100) arch::relax();
      else sys::call(SYS_sched_yield);
    }
  }
  void unlock() noexcept { held_.store(false, std::memory_order_release); }

 private:
  atomic<bool> held_{false};
};

class spin_guard {
 public:
  explicit spin_guard(spin_lock& l) noexcept : lock_(l) { lock_.lock(); }
  ~spin_guard() { lock_.unlock(); }
  spin_guard(const spin_guard&) = delete;

 private:
  spin_lock& lock_;
};

}  // namespace tendril::core
