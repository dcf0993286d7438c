// Mutual exclusion of the kernel threads that use an object, for the few instructions that change
// its state (a biased lock). Not for programs; mutex.hpp has a lock that fibers may wait for.
//
// The first kernel thread that locks it owns it: its lock() takes two plain stores and two loads.
// When a second one comes, the object becomes a futex lock for good. The revocation is an
// asymmetric Dekker protocol: the owner sets `busy_`, then checks that it still owns the object;
// the newcomer takes the ownership away, executes a memory barrier on every kernel thread
// (membarrier), then waits while `busy_` is set. So either the owner sees that it is no longer the
// owner, or the newcomer sees that it is busy.
//
// While it is held, no fiber may be switched, and no exception may leave except through a `held`.
// It is not recursive.
#pragma once

#include <atomic>
#include <utility>

#include "core.hpp"

namespace tendril::detail {

// Identifies a kernel thread.
struct by_thread_pointer {
  static std::uintptr_t me() noexcept {
    return reinterpret_cast<std::uintptr_t>(__builtin_thread_pointer());
  }
};

// `Atomic` is another one only in tests/models.
template <class By, template <class> class Atomic = std::atomic>
class biased_lock_by {
 public:
  constexpr biased_lock_by() noexcept = default;
  biased_lock_by(const biased_lock_by&) = delete;
  biased_lock_by& operator=(const biased_lock_by&) = delete;

  // Returns whether several kernel threads use the object.
  bool lock() noexcept {
    std::uintptr_t me = By::me();
    if (owner_.load(std::memory_order_relaxed) == me) [[likely]] {
      busy_.store(true, std::memory_order_relaxed);
      // only the compiler must not reorder here: barrier_all() orders the processor's stores
      std::atomic_signal_fence(std::memory_order_seq_cst);
      if (owner_.load(std::memory_order_relaxed) == me) [[likely]]
        return false;
      busy_.store(false, std::memory_order_release);
    }
    return lock_slow(me);
  }
  // `shared` is the result of lock().
  void unlock(bool shared) noexcept {
    if (!shared) [[likely]]
      busy_.store(false, std::memory_order_release);
    else if (word_.exchange(0, std::memory_order_release) == 2) core::futex_wake_one(&word_);
  }
  bool shared() const noexcept { return owner_.load(std::memory_order_relaxed) == everybody; }

 private:
  [[gnu::noinline]] bool lock_slow(std::uintptr_t me) noexcept {
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

  // Values of owner_: By::me(), 0 before the first lock(), or one of these. nobody: the ownership
  // is being revoked.
  static constexpr std::uintptr_t everybody = 1, nobody = 2;
  Atomic<std::uintptr_t> owner_{0};
  Atomic<bool> busy_{false};
  Atomic<std::uint32_t> word_{0};  // 0: free, 1: held, 2: held and waited for
};

// (A fiber that is a thread has a thread pointer of its own, so it counts as another kernel
// thread.)
using biased_lock = biased_lock_by<by_thread_pointer>;

// Locks a biased_lock for the lifetime of the object.
template <class Lock>
class held {
 public:
  [[nodiscard]] explicit held(Lock& x) noexcept : lock_(&x), shared_(x.lock()) {}
  // Inline on exception paths too: only then do the members stay in registers.
  [[gnu::always_inline]] ~held() {
    if (lock_) lock_->unlock(shared_);
  }
  held(const held&) = delete;
  // Whether several kernel threads use the object.
  bool shared() const noexcept { return shared_; }
  // Unlocks it now.
  void release() noexcept { std::exchange(lock_, nullptr)->unlock(shared_); }

 private:
  Lock* lock_;
  bool shared_;
};

}  // namespace tendril::detail
