// A condition that fibers of any kernel thread wait for under a mutex: std::condition_variable
// built on park and unpark. A fiber never holds the mutex while it waits, so two fibers of one
// kernel thread never contend for it. Not for programs.
#pragma once

#include <chrono>
#include <mutex>

#include "core.hpp"
#include "outcome.hpp"

namespace tendril::detail {

class remote_wait {
 public:
  remote_wait() noexcept = default;
  remote_wait(const remote_wait&) = delete;

  // How to wait: what a report says, and whether to queue in front of earlier waiters (used by a
  // worker whose cache is warm).
  struct manner {
    core::wait_kind kind = core::wait_kind::event;
    bool remote = true;            // another kernel thread may end the wait: never a loop_exit
    bool threads = false;          // the same, if there are any
    bool uninterruptible = false;  // kill() does not end it
    bool in_front = false;
  };

  // Waits until ready(), which is called with the lock held, is true, or until the deadline.
  // Returns whether it is true. Throws as every wait does (kill, time-outs), with the lock held.
  template <class Ready>
  bool wait(std::unique_lock<std::mutex>& lock, std::chrono::steady_clock::time_point deadline,
            Ready ready, const manner& how) {
    core::wait_info what;
    what.kind = how.kind;
    what.wakeable_by_system = how.remote;
    what.wakeable_by_threads = how.threads;
    what.uninterruptible = how.uninterruptible;
    while (!ready()) {
      waiter w{core::fiber_current()};
      add(w, how.in_front);
      lock.unlock();
      core::wake why = core::park(deadline_of(deadline), what);
      lock.lock();
      bool notified = w.notified;
      if (!notified) remove(w);
      if (why == core::wake::unparked || why == core::wake::signal) continue;
      if (ready()) return true;
      if (notified) notify_one();  // it was meant for a fiber that goes on waiting
      if (why == core::wake::timeout) return false;
      checked(why, &what);
    }
    return true;
  }
  template <class Ready>
  bool wait(std::unique_lock<std::mutex>& lock, std::chrono::steady_clock::time_point deadline,
            Ready ready) {
    return wait(lock, deadline, std::move(ready), manner{});
  }

  // The caller must hold the lock: then a waiter cannot leave, so its fiber still exists.
  void notify_one() noexcept {
    if (waiter* w = first_) wake(*w);
  }
  void notify_all() noexcept {
    while (first_) wake(*first_);
  }

 private:
  struct waiter {
    core::fiber* who;
    bool notified = false;
    waiter* before = nullptr;
    waiter* next = nullptr;
  };
  void add(waiter& w, bool in_front) noexcept {
    if (in_front) {
      w.next = first_;
      (first_ ? first_->before : last_) = &w;
      first_ = &w;
    } else {
      w.before = last_;
      (last_ ? last_->next : first_) = &w;
      last_ = &w;
    }
  }
  void remove(waiter& w) noexcept {
    (w.before ? w.before->next : first_) = w.next;
    (w.next ? w.next->before : last_) = w.before;
  }
  void wake(waiter& w) noexcept {
    remove(w);
    w.notified = true;
    core::unpark(w.who);
  }

  waiter* first_ = nullptr;
  waiter* last_ = nullptr;
};

}  // namespace tendril::detail
