// The hub: what makes the fibers of one kernel thread take turns.
//
// It has no fiber and no stack of its own. A fiber that parks picks the next runnable one and jumps to it; only
// when there is none does it poll, right where it stands.
#pragma once

#include <signal.h>

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
  // A signal came whose handler has to wait: it is blocked and pending again until run_handlers(). Async-signal-safe.
  void put_off(int signal) noexcept;
  // Lets the handlers that were put off run, here. They may never return (siglongjmp).
  void run_handlers() noexcept;
  // The same as the running fiber leaves the runtime, if it is the one to do it.
  void run_handlers_due() noexcept;
  bool handlers_put_off() const noexcept { return put_off_ != 0; }
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
  // The signal handlers that run, outermost first, as far as we know: a handler may leave by siglongjmp, which shows
  // only by its mark being gone (see posix/signal.cpp).
  struct running_handler {
    const std::uint64_t* mark;  // in its frame
    std::uint64_t serial;       // what is to be read there
  };
  static constexpr int most_handlers = 32;
  running_handler handlers[most_handlers] = {};
  volatile int handler_depth = 0;
  std::uint64_t handlers_begun = 0;
  // The fibers that wait with a signal mask of their own, and the mask that was there before the first of them.
  unsigned masked = 0;
  std::uint64_t mask_before = 0;
  // The fibers that are in system(3), and whether SIGCHLD was blocked before the first of them blocked it.
  unsigned child_signal_blocks = 0;
  bool child_signal_blocked_before = false;
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
  volatile std::uint64_t put_off_ = 0;  // a bit per signal
  nanoseconds trimmed_ = 0;
  std::atomic<bool> sleeping_{false};
  std::atomic<bool> closed_elsewhere_{false};
};

// While one lives, no signal handler runs: it might find the runtime half changed, and leave it so by siglongjmp.
// Handlers run as soon as the fiber has left the outermost.
class handlers_wait {
 public:
  explicit handlers_wait(hub& h) noexcept : hub_(h) {
    h.inside = h.inside + 1;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  ~handlers_wait() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    hub_.inside = hub_.inside - 1;
    if (hub_.inside == 0 && hub_.handlers_put_off()) [[unlikely]] hub_.run_handlers_due();
  }
  handlers_wait(const handlers_wait&) = delete;

 private:
  hub& hub_;
};

class registry_guard {
 public:
  registry_guard() noexcept {
    // A handler that closes a descriptor would wait for ever for the lock that it has interrupted.
    if (mine_) {
      mine_->inside = mine_->inside + 1;
    } else {
      std::uint64_t all = ~0ULL;
      sys::call(SYS_rt_sigprocmask, SIG_BLOCK, &all, &mask_, 8);
    }
    while (hub::registry_lock.exchange(1, std::memory_order_acquire)) sys::call(SYS_sched_yield);
  }
  ~registry_guard() {
    hub::registry_lock.store(0, std::memory_order_release);
    if (!mine_) {
      sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &mask_, 0, 8);
      return;
    }
    mine_->inside = mine_->inside - 1;
    if (mine_->inside == 0 && mine_->handlers_put_off()) mine_->run_handlers_due();
  }
  registry_guard(const registry_guard&) = delete;

 private:
  hub* mine_ = current ? hub::of(current) : nullptr;
  std::uint64_t mask_ = 0;
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
