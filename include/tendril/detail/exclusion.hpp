// Keeps the kernel threads that use an object out of each other's way for the few instructions that
// change its state. Not for programs; mutex.hpp has what a fiber may wait for.
//
// The first kernel thread that comes has the object for itself: its lock() is two plain stores and
// two loads. When a second one comes, the object becomes a futex lock for good. The hand-over is an
// asymmetric Dekker protocol: the owner says "busy", then looks whether it still owns; the newcomer
// takes the ownership away, puts a memory barrier on every kernel thread (membarrier), then waits
// while the owner is busy. Either the owner sees that it owns no more, or the newcomer sees that it
// is busy.
//
// No fiber may be switched while it is held, nothing may throw out of it but under a `held`, and
// nobody may take one twice.
#pragma once

#include <atomic>
#include <utility>

#include "core.hpp"

namespace tendril::detail {

// By what the kernel threads are told apart.
struct by_thread_pointer {
  static std::uintptr_t me() noexcept {
    return reinterpret_cast<std::uintptr_t>(__builtin_thread_pointer());
  }
};

template <class By>
class exclusion_by {
 public:
  constexpr exclusion_by() noexcept = default;
  exclusion_by(const exclusion_by&) = delete;
  exclusion_by& operator=(const exclusion_by&) = delete;

  // Returns whether several kernel threads use the object.
  bool lock() noexcept {
    std::uintptr_t me = By::me();
    if (owner_.load(std::memory_order_relaxed) == me) [[likely]] {
      busy_.store(true, std::memory_order_relaxed);
      // the processor's part is barrier_all()'s
      std::atomic_signal_fence(std::memory_order_seq_cst);
      if (owner_.load(std::memory_order_relaxed) == me) [[likely]]
        return false;
      busy_.store(false, std::memory_order_release);
    }
    return lock_slowly(me);
  }
  // `shared` is what lock() returned.
  void unlock(bool shared) noexcept {
    if (!shared) [[likely]]
      busy_.store(false, std::memory_order_release);
    else if (word_.exchange(0, std::memory_order_release) == 2) core::futex_wake_one(&word_);
  }
  bool shared() const noexcept { return owner_.load(std::memory_order_relaxed) == everybody; }

 private:
  [[gnu::noinline]] bool lock_slowly(std::uintptr_t me) noexcept {
    for (std::uintptr_t owner;;) {
      owner = owner_.load(std::memory_order_acquire);
      if (owner == everybody) break;
      if (!owner) {
        std::uintptr_t first = core::barrier_available() ? me : everybody;
        if (owner_.compare_exchange_strong(owner, first, std::memory_order_acq_rel)) return lock();
      } else if (owner == me) {
        return lock();
      } else if (owner != nobody &&
                 owner_.compare_exchange_strong(owner, nobody, std::memory_order_acq_rel)) {
        core::barrier_all();
        while (busy_.load(std::memory_order_acquire)) core::processor_yield();
        owner_.store(everybody, std::memory_order_release);
      } else {
        core::processor_yield();
      }
    }
    for (int i = 0; i < 100; i++) {
      std::uint32_t free = 0;
      if (word_.compare_exchange_weak(free, 1, std::memory_order_acquire)) return true;
    }
    while (word_.exchange(2, std::memory_order_acquire) != 0) core::futex_sleep(&word_, 2);
    return true;
  }

  // By::me(), 0 before the first comes, or one of these. nobody: the ownership is being taken away.
  static constexpr std::uintptr_t everybody = 1, nobody = 2;
  std::atomic<std::uintptr_t> owner_{0};
  std::atomic<bool> busy_{false};
  std::atomic<std::uint32_t> word_{0};  // 0: free, 1: held, 2: held and waited for
};

// (A fiber that stands for a thread has a thread pointer of its own, and so counts as another one.)
using exclusion = exclusion_by<by_thread_pointer>;

// Holds an exclusion.
template <class Exclusion>
class held {
 public:
  explicit held(Exclusion& x) noexcept : exclusion_(&x), shared_(x.lock()) {}
  // Inline where an exception leaves, too: only so do its members stay in registers.
  [[gnu::always_inline]] ~held() {
    if (exclusion_) exclusion_->unlock(shared_);
  }
  held(const held&) = delete;
  // Whether several kernel threads use the object.
  bool shared() const noexcept { return shared_; }
  // Lets go of it now.
  void release() noexcept { std::exchange(exclusion_, nullptr)->unlock(shared_); }

 private:
  Exclusion* exclusion_;
  bool shared_;
};

}  // namespace tendril::detail
