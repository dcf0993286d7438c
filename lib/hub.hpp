// The hub: what makes the fibers of one kernel thread take turns.
//
// It has no fiber and no stack of its own. A fiber that parks picks the next runnable one and jumps to it; only
// when there is none does it poll, right where it stands.
#pragma once

#include <atomic>

#include "fiber.hpp"
#include "inbox.hpp"
#include "poller.hpp"
#include "ready.hpp"
#include "timers.hpp"

namespace tendril::core {

struct hub : fiber_home {
  ready_queue ready;
  timer_heap timers;
  poller io;
  inbox mail;

  // The hub of the calling kernel thread, made on first use.
  static hub& here() noexcept { return *static_cast<hub*>(ensure_current()->home); }
  static hub* of(const fiber* f) noexcept { return static_cast<hub*>(f->home); }

  // Makes a parked fiber of this thread's hub runnable; does nothing if it is not parked.
  static void wake(fiber* f, core::wake why) noexcept;
  // The next fiber to run; polls until there is one.
  fiber* next() noexcept;
  // Called by cooperative calls that did not need to wait: a fiber whose descriptor is never empty has to let
  // others run now and then.
  void breathe() noexcept {
    if (--breath_ == 0) [[unlikely]] out_of_breath();
  }
  // Looks at events, timers and the inbox; waits for one of them if `block`.
  void look(bool block) noexcept;
  // A signal handler ran on this kernel thread. Async-signal-safe.
  void note_signal(bool restart) noexcept;
  // Some descriptor on which a fiber of this hub may be parked was closed by another kernel thread. Any thread.
  void note_closed() noexcept;
  void ring() noexcept;  // ends a blocking look(); any thread, async-signal-safe
  void after_fork() noexcept;
  // The kernel thread ends: unwinds what is unfinished.
  void shut_down() noexcept;

  // All hubs of the process, for close() and fork(). Calls f(hub&) under a lock.
  template <class F>
  static void for_each(F f) noexcept;
  static bool any() noexcept { return registry.load(std::memory_order_relaxed) != nullptr; }

  // Signal handlers that ran on this thread, and those among them without SA_RESTART.
  std::atomic<std::uint32_t> signals{0};
  std::atomic<std::uint32_t> signals_norestart{0};
  // The frame of the innermost running signal handler, or null.
  const void* volatile handler_frame = nullptr;
  std::size_t remote_waits = 0;  // parked fibers that something outside this hub may wake

  hub* next_hub = nullptr;
  static std::atomic<hub*> registry;
  static std::atomic<std::uint32_t> registry_lock;

 private:
  friend core::wake park(std::int64_t, const wait_info&) noexcept;
  void out_of_breath() noexcept;
  void look_if_due() noexcept;
  void deliver_signals() noexcept;
  void deadlock() noexcept;

  static constexpr unsigned full_breath = 64;
  unsigned breath_ = full_breath;
  unsigned turns_ = 0;
  std::uint64_t looked_ = 0;  // arch::ticks() at the last look
  std::uint32_t signals_seen_ = 0;
  nanoseconds trimmed_ = 0;
  std::atomic<bool> sleeping_{false};
  std::atomic<bool> closed_elsewhere_{false};
};

class registry_guard {
 public:
  registry_guard() noexcept {
    while (hub::registry_lock.exchange(1, std::memory_order_acquire)) sys::call(SYS_sched_yield);
  }
  ~registry_guard() { hub::registry_lock.store(0, std::memory_order_release); }
};

template <class F>
void hub::for_each(F f) noexcept {
  registry_guard guard;
  for (hub* h = registry.load(std::memory_order_relaxed); h; h = h->next_hub) f(*h);
}

// A descriptor number is about to be closed or replaced: every hub forgets it and its waiters wake.
void forget_descriptor(int fd) noexcept;
// Wakes the fibers of all hubs whose descriptor has been forgotten; called after the close.
void wake_closed_waiters(int fd) noexcept;

}  // namespace tendril::core
