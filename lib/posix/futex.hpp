// A futex in user space: waiting until somebody says that a word of memory has changed. Every lock of a thread that
// is a fiber waits here, and syscall(SYS_futex) does.
//
// One table for the process, keyed by address. Fibers of any hub and plain kernel threads wait side by side, first
// come, first served.
#pragma once

#include <cstdint>

#include "../futex_lock.hpp"
#include "cooperate.hpp"

namespace tendril::posix::futex {

inline constexpr std::uint32_t everybody = ~0u;

// What ends a wait beside a wake-up and the deadline.
enum class ends {
  by_wake,      // nothing, unless the thread is to be cancelled at once (-ECANCELED): handlers run meanwhile
  by_cancel,    // pthread_cancel, and a task's kill: -ECANCELED
  by_signal,    // these, and a handler: -EINTR, by the rules of SA_RESTART, or in any case if there is a deadline
  by_handler,   // such a handler only
};

// One that waits; lives in its frame.
struct waiter : core::list_node {
  const void* word = nullptr;
  fiber* who = nullptr;  // null: a kernel thread without fibers
  std::uint32_t bits = everybody;
  // Counts those that are listed, in the object that they wait for; changes under the lock of the table.
  std::atomic<std::uint32_t>* count = nullptr;
  std::atomic<std::uint32_t> woken{0};
};

// In two steps, for those who have to let go of something in between: lists `w` for `word`; then waits. add() looks at
// nothing; add_if() only adds while the word is `expected`.
void add(waiter& w, const void* word) noexcept;
bool add_if(waiter& w, const std::atomic<std::uint32_t>* word, std::uint32_t expected) noexcept;
void remove(waiter& w) noexcept;
// 0: woken. Else -ETIMEDOUT, -ECANCELED, -EINTR, and the waiter is not listed any more.
int wait(waiter& w, deadline until, ends e) noexcept;

// Both: waits while the word is `expected`; -EAGAIN if it is not.
int wait(const std::atomic<std::uint32_t>* word, std::uint32_t expected, deadline until, ends e,
         std::uint32_t bits = everybody) noexcept;
// Wakes at most n that wait for the word with one of the bits; returns how many. Async-signal-safe.
int wake(const void* word, int n, std::uint32_t bits = everybody) noexcept;
// Wakes at most n of those that wait for `from`, and lets at most `moved` others wait for `to` instead. Returns both
// numbers. With `expected`, only if `from` is a word that holds it; -1 otherwise.
struct requeued {
  int woken, moved;
};
requeued requeue(const void* from, int n, const void* to, int moved, const std::uint32_t* expected = nullptr) noexcept;

// The monotonic deadline of an absolute time on a clock that pthreads know (CLOCK_REALTIME, CLOCK_MONOTONIC).
deadline absolute(clockid_t clock, const timespec& t) noexcept;

// --- the table itself, for locks that decide under its lock whom they wake or whether they wait ---

struct alignas(64) bucket {
  core::spin_lock lock;
  core::list<waiter> waiters;
};
// To be called before the first of what follows: a forked child has no waiters.
void prepare() noexcept;
bucket& bucket_of(const void* word) noexcept;
// These under the lock of the bucket, without which a listed waiter does not go away.
void list_waiter(bucket& b, waiter& w, const void* word) noexcept;
void unlist(waiter& w) noexcept;
void wake_one(waiter& w) noexcept;

}  // namespace tendril::posix::futex
