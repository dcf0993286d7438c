// Calls that other kernel threads make on the kernel thread of a fiber, since only that one may
// touch it. Not for programs.
#pragma once

#include <atomic>
#include <new>
#include <utility>

#include "core.hpp"
#include "outcome.hpp"
#include "waiting.hpp"

namespace tendril::detail {

// What one kernel thread tells another, once.
class notice {
 public:
  bool is_given() const noexcept { return given_.load(std::memory_order_acquire); }
  void give() noexcept {
    held h(lock_);
    given_.store(true, std::memory_order_release);
    grant_all(waiters_);
  }
  // Waits until it is given, or the deadline passes. Returns whether it was given. A cancellation
  // point.
  bool wait_until(clock::time_point deadline) {
    return wait_until_ready(
        lock_, waiters_, [this] { return is_given(); }, deadline, core::wait_kind::task);
  }

 private:
  biased_lock lock_;
  std::atomic<bool> given_{false};
  wait_list waiters_;
};

// A call on the kernel thread of `there`, whose reference f must hold. f must not throw.
template <class F>
class call_there {
 public:
  call_there(core::fiber* there, F f) noexcept : there_(there), f_(std::move(f)) {}
  call_there(call_there&& o) noexcept
      : there_(std::exchange(o.there_, nullptr)), f_(std::move(o.f_)) {}
  // At the end of its kernel thread, a task that has not begun never runs: the call is made here
  // then.
  ~call_there() {
    if (there_ && core::fiber_on_this_thread(there_)) (*this)();
  }
  void operator()() noexcept {
    there_ = nullptr;
    f_();
  }

 private:
  core::fiber* there_;
  F f_;
};

// Makes the kernel thread of `there`, which is another one, call f() in a task of its own, soon.
// Returns false if that kernel thread has ended, or is the parent's of a fork: then f is never
// called. Throws std::bad_alloc.
template <class F>
bool start_there(core::fiber* there, F f) {
  using call = call_there<F>;
  using payload = task_payload<void, call>;
  core::fiber_options o;
  o.kind = core::fiber_kind::task;
  core::fiber* t = core::fiber_new(sizeof(payload), payload::ops, o);
  if (!t) throw std::bad_alloc();
  new (core::fiber_payload(t)) payload(call(there, std::move(f)));
  [[maybe_unused]] static const bool reaped = (core::set_reaper(reap_task), true);
  if (core::start_at(there, t)) return true;
  core::fiber_unref(t);
  return false;
}

}  // namespace tendril::detail
