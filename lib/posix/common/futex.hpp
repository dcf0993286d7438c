// A futex in user space: waits until another fiber or thread reports that a word of memory has
// changed. All locks of threads that are fibers wait here, and so does syscall(SYS_futex).
//
// The process has one table, keyed by address. Fibers of any hub and plain kernel threads wait side
// by side, first come, first served.
#pragma once

#include <cstdint>

#include <tendril/detail/biased_lock.hpp>

#include "posix/common/cooperate.hpp"

namespace tendril::posix::futex {

inline constexpr std::uint32_t everybody = ~0u;

// What ends a wait besides a wake-up and the deadline.
enum class ends {
  // nothing, except asynchronous cancellation (-ECANCELED); handlers run meanwhile
  by_wake,
  by_cancel,  // pthread_cancel, and a task's kill: -ECANCELED
  // these, and a handler: -EINTR, subject to SA_RESTART, or always if there is a deadline
  by_signal,
  by_handler,  // only a handler, by the same rules
};

// A waiter; lives in the waiting function's frame.
struct waiter : core::list_node {
  const void* word = nullptr;
  fiber* who = nullptr;  // null: a kernel thread without fibers
  std::uint32_t bits = everybody;
  // If not null: the number of listed waiters, kept in the object that they wait for. Changes only
  // under the bucket's lock.
  std::atomic<std::uint32_t>* count = nullptr;
  std::atomic<std::uint32_t> woken{0};
};

// A wait in two steps, for callers that must release something in between: add() lists `w` for
// `word` without reading the word; then wait().
void add(waiter& w, const void* word) noexcept;
void remove(waiter& w) noexcept;
// 0: woken. Otherwise -ETIMEDOUT, -ECANCELED or -EINTR, and the waiter has been removed.
int wait(waiter& w, deadline until, ends e) noexcept;

// Both steps: waits while the word equals `expected`; -EAGAIN if it does not.
int wait(const std::atomic<std::uint32_t>* word, std::uint32_t expected, deadline until, ends e,
         std::uint32_t bits = everybody) noexcept;
// Wakes at most n (and at least one) of the waiters for the word that share a bit with `bits`;
// returns how many. Async-signal-safe.
int wake(const void* word, int n, std::uint32_t bits = everybody) noexcept;
// Wakes at most n waiters for `from`, and moves at most `moved` of the others to `to`. Returns both
// numbers. With `expected`, does so only if `from` holds that value; woken is -1 otherwise.
struct requeued {
  int woken, moved;
};
requeued requeue(const void* from, int n, const void* to, int moved,
                 const std::uint32_t* expected = nullptr) noexcept;

// Converts an absolute time on a clock that pthreads accept (CLOCK_REALTIME, CLOCK_MONOTONIC) to a
// monotonic deadline.
deadline absolute(clockid_t clock, const timespec& t) noexcept;

// --- the table itself, for locks that choose under its lock whom to wake or whether to wait ---

// Identifies a kernel thread. If fibers run on it, by the thread pointer of its hub: the current
// one is the running fiber's.
struct by_kernel_thread {
  static std::uintptr_t me() noexcept {
    return reinterpret_cast<std::uintptr_t>(core::current ? my_hub().storage.pointer
                                                          : arch::thread_pointer());
  }
};
using biased_lock = detail::biased_lock_by<by_kernel_thread>;

struct alignas(64) bucket {
  biased_lock lock;
  core::list<waiter> waiters;
};
constexpr unsigned buckets_log2 = 12;
extern bucket table[1 << buckets_log2];
inline bucket& bucket_of(const void* word) noexcept {
  std::uint64_t h = reinterpret_cast<std::uint64_t>(word) >> 2;
  return table[h * 0x9e3779b97f4a7c15 >> (64 - buckets_log2)];
}
// Must be called before any function below: marks the table as used.
extern std::atomic<bool> used;
inline void prepare() noexcept {
  if (!used.load(std::memory_order_relaxed)) used = true;
}
// A forked child has no waiters.
void after_fork() noexcept;
// These require the bucket's lock; only under it is a waiter removed.
inline void list_waiter(bucket& b, waiter& w, const void* word) noexcept {
  fiber* self = core::current;
  bool may_park =
      self && self->state == core::fiber_status::running && could_park(self) && in_hubs_process();
  w.word = word;
  w.who = may_park ? self : nullptr;
  b.waiters.push_back(w);
  if (w.count)
    w.count->store(w.count->load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}
inline void unlist(waiter& w) noexcept {
  if (!w.linked()) return;
  w.unlink();
  if (w.count)
    w.count->store(w.count->load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
}
inline void wake_one(waiter& w) noexcept {
  unlist(w);
  if (w.who) [[likely]] {
    // Set `woken` last: the waiter may then destroy its frame and its fiber.
    core::unpark(w.who);
    w.woken.store(1, std::memory_order_release);
  } else {
    w.woken.store(1, std::memory_order_release);
    sys::futex_wake(&w.woken, 1);
  }
}

}  // namespace tendril::posix::futex
