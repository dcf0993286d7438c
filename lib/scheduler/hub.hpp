// The hub: what makes the fibers of one kernel thread take turns.
//
// It has no fiber and no stack of its own. A fiber that parks picks the next runnable one and jumps
// to it; only when there is none does it poll, right where it stands.
#pragma once

#include <atomic>

#include "base/futex_lock.hpp"
#include "events/poller.hpp"
#include "fiber/handlers_deferred.hpp"
#include "fiber/lifetime.hpp"
#include "scheduler/remote_queue.hpp"
#include "scheduler/run_queue.hpp"
#include "scheduler/signal_delivery.hpp"
#include "scheduler/timers.hpp"

namespace tendril::core {

// Parked fibers that are woken from outside their hub, perhaps.
struct outside_waits {
  std::uint32_t by_system = 0;   // that something outside this hub may wake
  std::uint32_t by_threads = 0;  // that other kernel threads may wake, if there are any
  // Both at once.
  void add(const wait_info& what) noexcept { put(get() + of(what)); }
  void remove(const wait_info& what) noexcept { put(get() - of(what)); }

 private:
  static std::uint64_t of(const wait_info& what) noexcept {
    return std::uint64_t(what.wakeable_by_threads) << 32 | what.wakeable_by_system;
  }
  std::uint64_t get() const noexcept { return std::uint64_t(by_threads) << 32 | by_system; }
  void put(std::uint64_t both) noexcept {
    by_system = std::uint32_t(both), by_threads = std::uint32_t(both >> 32);
  }
};

struct hub : fiber_home {
  run_queue ready;
  remote_queue remote;
  outside_waits waits;
  core::timers timers;
  poller io;
  signal_delivery signals;

  hub(const hub_calls& for_fibers, poller::hub_part for_poller) noexcept;
  static hub* of(const fiber* f) noexcept { return static_cast<hub*>(f->home); }

  // Makes a parked fiber of this thread's hub runnable; does nothing if it is not parked.
  static void wake(fiber* f, core::wake why) noexcept;
  // The same where it is known to be parked. `deep`: it stands deep below its own frames, as in a
  // system call's stead.
  [[gnu::always_inline]] static void make_ready(fiber* f, core::wake why, bool deep) noexcept {
    hub& h = *of(f);
    h.waits.remove(*f->waiting);
    f->woken = why;
    f->state = fiber_status::ready;
    h.ready.push(f, deep);
  }
  // Begins a turn. Whether there is more to do than to take the next fiber, if there is one.
  [[gnu::always_inline]] bool begin_turn() noexcept {
    unsigned turns = turns_ + 1;
    std::atomic_ref(turns_).store(turns, std::memory_order_relaxed);  // watched by another thread
    return __builtin_expect((turns & 31) == 0 || !remote.empty(), false);
  }
  [[gnu::always_inline]] bool needs_refill() noexcept { return begin_turn() || ready.empty(); }
  // Ends with a fiber that can run.
  void refill_run_queue() noexcept;
  // That the fiber, which is about to park, is woken then at the latest.
  void wake_at(fiber* f, nanoseconds when, bool precise) noexcept;
  // The next fiber to run; polls until there is one.
  fiber* next() noexcept {
    if (needs_refill()) [[unlikely]]
      refill_run_queue();
    return ready.pop();
  }
  // Called by cooperative calls that did not need to wait: a fiber whose descriptor is never empty
  // has to let others run now and then.
  void charge_budget() noexcept {
    if (breath_turn_ != turns_) breath_turn_ = turns_, breath_ = full_breath;
    if (--breath_ == 0) [[unlikely]]
      out_of_breath();
  }
  // Looks at events, timers and the remote_queue; waits for one of them if `block`.
  void look(bool block) noexcept;
  // Does a little of giving memory that was not needed for a while back to the system, if that is
  // due. Returns when the next little is: INT64_MAX if there is nothing more.
  nanoseconds trim(nanoseconds now) noexcept;
  // Whether fibers that have ended left memory that was not given back yet: then waits come here,
  // though nobody else waits.
  bool has_to_trim() const noexcept { return idle || trims_more_ || stacks.left_memory(); }
  void note_left_memory() noexcept { trims_more_ = true; }
  // The same of threads that have ended, once there are threads. Returns whether there is more to
  // come.
  bool (*trim_threads)() noexcept = nullptr;
  // The same without waiting, if the last look was a while ago; lets in signals that the running
  // thread blocks, and others not.
  void look_if_due() noexcept;

  // The kernel thread's list of robust mutexes, as it was in that process; null: not asked for yet
  // (posix/locks/robust.cpp).
  void* robust_list = nullptr;
  int robust_pid = 0;

  // Some descriptor on which a fiber of this hub may be parked was closed by another kernel thread.
  // Any thread.
  void note_closed() noexcept;
  // For who watches from another thread: how often a fiber gave way, and whether the hub sleeps.
  unsigned turns() const noexcept {
    return std::atomic_ref(const_cast<unsigned&>(turns_)).load(std::memory_order_relaxed);
  }
  // Who watches is not to see the turns since then.
  void forget_turns_since(unsigned turns) noexcept {
    std::atomic_ref(turns_).store(turns, std::memory_order_relaxed);
  }
  bool sleeps() const noexcept { return sleeping_.load(std::memory_order_relaxed); }
  void notify() noexcept;  // ends a blocking look(); any thread, async-signal-safe
  void after_fork() noexcept;

  fiber* yielded_to_handler = nullptr;  // has stepped aside for a handler, see yield_to_handler()

  // Whether this code runs in the hub's process, not in a child that borrows our memory (vfork),
  // whose calls are not to touch the hub. Only while there may be such a child the kernel is asked.
  bool in_own_process() const noexcept { return vfork_children == 0 || pid == sys::getpid(); }

  // All hubs of the process, for close() and fork(). Calls f(hub&) under a lock.
  template <class F>
  static void for_each(F f) noexcept;
  static bool any() noexcept { return registry.load(std::memory_order_relaxed) != nullptr; }

  // The children that borrow the memory now, as far as we saw them begin (shim/vfork.cpp); a
  // clone() that shares memory counts for ever.
  volatile int vfork_children = 0;

  hub* next_hub = nullptr;
  static std::atomic<hub*> registry;
  static spin_lock registry_lock;
  static std::atomic<int> helper_threads;
  static std::atomic<int> count;  // of all hubs

 private:
  void out_of_breath() noexcept;
  void deadlock() noexcept;
  bool is_deadlocked() const noexcept;
  bool may_find_something() const noexcept;

  static constexpr unsigned full_breath = 64;
  unsigned turns_ = 0;
  unsigned breath_ = full_breath;
  unsigned breath_turn_ = 0;  // the turn in which it is counted
  std::uint64_t looked_ = 0;  // arch::ticks() at the last look
  nanoseconds trim_at_ = 0;
  bool trims_more_ = false;  // the last round of it left something
  unsigned looks_ = 0;
  nanoseconds seen_ = 0;  // the time, as the timers were last looked at
  std::atomic<bool> sleeping_{false};
  std::atomic<bool> closed_elsewhere_{false};
  std::atomic<bool> nudged_{false};  // by a signal: its descriptors have been closed in its sleep
  static bool takes_nudge(siginfo_t*, void*) noexcept;
};

class registry_guard {
  // a handler that closes a descriptor would wait for ever for the lock that it has interrupted
  signals_deferred quiet_;
  spin_guard held_{hub::registry_lock};
};

template <class F>
void hub::for_each(F f) noexcept {
  registry_guard guard;
  for (hub* h = registry.load(std::memory_order_relaxed); h; h = h->next_hub) f(*h);
}

}  // namespace tendril::core
