// A futex in user space: waiting until somebody says that a word of memory has changed. Every lock
// of a thread that is a fiber waits here, and syscall(SYS_futex) does.
//
// One table for the process, keyed by address. Fibers of any hub and plain kernel threads wait side
// by side, first come, first served.
#pragma once

#include <cstdint>

#include <tendril/detail/biased_lock.hpp>

#include "posix/common/cooperate.hpp"

namespace tendril::posix::futex {

inline constexpr std::uint32_t everybody = ~0u;

// What ends a wait beside a wake-up and the deadline.
enum class ends {
  // nothing, unless the thread is to be cancelled at once (-ECANCELED): handlers run meanwhile
  by_wake,
  by_cancel,  // pthread_cancel, and a task's kill: -ECANCELED
  // these, and a handler: -EINTR, by the rules of SA_RESTART, or in any case if there is a deadline
  by_signal,
  by_handler,  // such a handler only
};

// One that waits; lives in its frame.
struct waiter : core::list_node {
  const void* word = nullptr;
  fiber* who = nullptr;  // null: a kernel thread without fibers
  std::uint32_t bits = everybody;
  // Counts those that are listed, in the object that they wait for; changes under the lock of the
  // table.
  std::atomic<std::uint32_t>* count = nullptr;
  std::atomic<std::uint32_t> woken{0};
};

// In two steps, for those who have to let go of something in between: lists `w` for `word`, without
// looking at it; then waits.
void add(waiter& w, const void* word) noexcept;
void remove(waiter& w) noexcept;
// 0: woken. Else -ETIMEDOUT, -ECANCELED, -EINTR, and the waiter is not listed any more.
int wait(waiter& w, deadline until, ends e) noexcept;

// Both: waits while the word is `expected`; -EAGAIN if it is not.
int wait(const std::atomic<std::uint32_t>* word, std::uint32_t expected, deadline until, ends e,
         std::uint32_t bits = everybody) noexcept;
// Wakes at most n (and at least one) that wait for the word with one of the bits; returns how many.
// Async-signal-safe.
int wake(const void* word, int n, std::uint32_t bits = everybody) noexcept;
// Wakes at most n of those that wait for `from`, and lets at most `moved` others wait for `to`
// instead. Returns both numbers. With `expected`, only if `from` is a word that holds it; -1
// otherwise.
struct requeued {
  int woken, moved;
};
requeued requeue(const void* from, int n, const void* to, int moved,
                 const std::uint32_t* expected = nullptr) noexcept;

// The monotonic deadline of an absolute time on a clock that pthreads know (CLOCK_REALTIME,
// CLOCK_MONOTONIC).
deadline absolute(clockid_t clock, const timespec& t) noexcept;

// --- the table itself, for locks that decide under its lock whom they wake or whether they wait ---

// Fibers that stand for threads are told from other kernel threads by the thread pointer of theirs.
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
// To be called before the first of what follows: the table is in use.
extern std::atomic<bool> used;
inline void prepare() noexcept {
  if (!used.load(std::memory_order_relaxed)) used = true;
}
// A forked child has no waiters.
void after_fork() noexcept;
// These under the lock of the bucket, without which a listed waiter does not go away.
inline void list_waiter(bucket& b, waiter& w, const void* word) noexcept {
  fiber* self = core::current;
  bool may_park = self && self->state == core::fiber_status::running && self->home->unfinished &&
                  in_hubs_process();
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
    // The mark comes last: whoever sees it goes, frame and fiber.
    core::unpark(w.who);
    w.woken.store(1, std::memory_order_release);
  } else {
    w.woken.store(1, std::memory_order_release);
    sys::futex_wake(&w.woken, 1);
  }
}

}  // namespace tendril::posix::futex
