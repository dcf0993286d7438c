// Fibers that wait for an object, first come, first served. Not for programs.
//
// An object has a biased_lock and a wait_list of waiters, each in the frame of the fiber that
// waits. A thread that changes the object so that a waiter may go on takes the waiter off the list
// and grants its request, all under the biased_lock. The waiter returns only after the biased_lock
// has been released. So neither the waiter's frame and fiber nor the object can be destroyed while
// the granting thread, whichever it is, still uses them.
#pragma once

#include <atomic>

#include "biased_lock.hpp"
#include "parking.hpp"

namespace tendril::detail {

struct waiter {
  explicit waiter(core::fiber* f = nullptr) noexcept : who(f) {}

  core::fiber* who;
  waiter* next;  // valid while it is listed
  waiter* prev;
  // Called under the object's biased_lock instead of waking `who`. It must be short and not use the
  // object.
  void (*notify)(waiter&) noexcept = nullptr;
  std::atomic<bool> granted{false};

  bool is_granted() const noexcept { return granted.load(std::memory_order_acquire); }
};

class wait_list {
 public:
  constexpr wait_list() noexcept = default;
  bool empty() const noexcept { return !first_; }
  waiter* front() const noexcept { return first_; }
  void push(waiter& w) noexcept {
    w.next = nullptr;
    w.prev = last_;
    (last_ ? last_->next : first_) = &w;
    last_ = &w;
  }
  void remove(waiter& w) noexcept {
    (w.prev ? w.prev->next : first_) = w.next;
    (w.next ? w.next->prev : last_) = w.prev;
  }
  // Returns the first waiter; the others are reached by `next`.
  waiter* take_all() noexcept {
    last_ = nullptr;
    return std::exchange(first_, nullptr);
  }
  waiter* pop() noexcept {
    waiter* w = first_;
    if (w) remove_first(*w);
    return w;
  }
  void remove_first(waiter& w) noexcept {
    first_ = w.next;
    (first_ ? first_->prev : last_) = nullptr;
  }

 private:
  waiter* first_ = nullptr;
  waiter* last_ = nullptr;
};

// Grants a waiter that has just been taken off its list, under the biased_lock. grant_fiber()
// requires that it has no `notify`.
inline void grant_fiber(waiter& w) noexcept {
  core::fiber* who = w.who;
  w.granted.store(true, std::memory_order_release);
  core::unpark(who);
}
inline void grant(waiter& w) noexcept {
  if (!w.notify) return grant_fiber(w);
  auto* notify = w.notify;
  w.granted.store(true, std::memory_order_release);
  notify(w);
}
// Grants all current waiters, not those that are added meanwhile.
inline void grant_all(wait_list& list) noexcept {
  if (list.empty()) return;
  for (waiter *w = list.take_all(), *next; w; w = next) {
    next = w->next;
    grant(*w);
  }
}

// Waits until the thread that granted the waiter has released the biased_lock.
inline void await_granter(biased_lock& x) noexcept {
  if (x.shared()) [[unlikely]] {
    held h(x);
  }
}

// Handles the rare ends of a wait. Returns true if the wait goes on.
template <class HandOn>
bool leave(biased_lock& x, wait_list& list, waiter& w, core::wake why, core::wait_info& what,
           HandOn&& hand_on) {
  if (why == core::wake::unparked) return true;
  if (why == core::wake::interrupted && unwinding() && !core::fiber_extras(w.who).forbidden) {
    what.uninterruptible = true;
    return true;
  }
  bool granted;
  {
    held h(x);
    granted = w.is_granted();
    if (!granted) list.remove(w);
  }
  if (why == core::wake::interrupted) {
    if (granted) hand_on();
    checked(why, &what);
    core::fail("a wait was interrupted, but no exception is pending");
  }
  if (!granted) checked(why, &what);
  return false;
}

// The slow path of suspend(): the waiter has not simply been granted.
template <class HandOn>
[[gnu::noinline]] bool suspended(biased_lock& x, wait_list& list, waiter& w,
                                 clock::time_point deadline, core::wait_info what, core::wake why,
                                 HandOn&& hand_on) {
  while (leave(x, list, w, why, what, hand_on)) {
    why = park_once(w.who, deadline, what);
    if (why != core::wake::interrupted && w.is_granted()) {
      await_granter(x);
      return true;
    }
  }
  return w.is_granted();
}
// Waits until w, which is on the list, is granted, or the deadline passes. The caller must not hold
// the biased_lock. Returns whether w was granted. Throws the exception of a kill or a time-out; if
// w had been granted by then, hand_on() passes the grant on first.
template <class HandOn>
[[gnu::always_inline]] inline bool suspend(biased_lock& x, wait_list& list, waiter& w,
                                           clock::time_point deadline, const core::wait_info& what,
                                           HandOn&& hand_on) {
  core::wake why = park_once(w.who, deadline, what);
  if (why == core::wake::interrupted || !w.is_granted()) [[unlikely]] {
    return suspended(x, list, w, deadline, what, why, hand_on);
  }
  await_granter(x);
  return true;
}

constexpr core::wait_info waits_for(core::wait_kind kind) noexcept {
  core::wait_info what;
  what.kind = kind;
  what.wakeable_by_threads = true;
  return what;
}

// For an object that can become ready (ready() says so under the biased_lock) and then grants all
// of `list`. watch() lists w, or returns false if the object is ready; unwatch() removes w;
// wait_until_ready() waits until the object is ready or the deadline passes, and returns whether it
// was ready.
template <class Ready>
bool watch(biased_lock& x, wait_list& list, waiter& w, Ready ready) {
  if (!w.notify) w.who = core::fiber_current();
  held h(x);
  if (ready()) return false;
  list.push(w);
  return true;
}
inline void unwatch(biased_lock& x, wait_list& list, waiter& w) noexcept {
  held h(x);
  if (!w.is_granted()) list.remove(w);
}
template <class Ready>
[[gnu::always_inline]] inline bool wait_until_ready(biased_lock& x, wait_list& list, Ready ready,
                                                    clock::time_point deadline,
                                                    core::wait_kind kind) {
  waiter w;
  if (!watch(x, list, w, ready)) return true;
  auto what = waits_for(kind);
  return suspend(x, list, w, deadline, what, [] {});
}

// An object that wait() in wait.hpp can wait for without taking it. watch_ready(waiter&) returns
// false if the object is ready; otherwise it lists the waiter, which is granted when the object
// becomes ready. unwatch_ready(waiter&) removes it.
template <class T>
concept watchable = requires(T& t, waiter& w) {
  { t.watch_ready(w) } -> std::convertible_to<bool>;
  t.unwatch_ready(w);
};

}  // namespace tendril::detail
