// The hub: the scheduler of the fibers of one kernel thread.
//
// It has no fiber and no stack of its own. A fiber that parks picks the next runnable fiber and
// jumps to it. If there is none, it polls, on its own stack.
#pragma once

#include "base/atomic.hpp"
#include "base/futex_lock.hpp"
#include "events/poller.hpp"
#include "fiber/handlers_deferred.hpp"
#include "fiber/lifetime.hpp"
#include "scheduler/memory_trim.hpp"
#include "scheduler/remote_queue.hpp"
#include "scheduler/run_queue.hpp"
#include "scheduler/signal_delivery.hpp"
#include "scheduler/tick.hpp"
#include "scheduler/timers.hpp"
#include "scheduler/turn_count.hpp"

namespace tendril::core {

// The number of parked fibers that something outside their hub may wake.
struct outside_waits {
  std::uint32_t by_system = 0;   // by another kernel thread, or by the system
  std::uint32_t by_threads = 0;  // by another kernel thread, if there are any
  // Both counters at once.
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
  memory_trim trim;
  tick_state tick;
  turn_count turns;

  hub(const hub_calls& for_fibers, poller::hub_part for_poller) noexcept;
  static hub* of(const fiber* f) noexcept { return static_cast<hub*>(f->home); }
  // The same for a fiber that another kernel thread may be moving.
  static hub* now_of(const fiber* f) noexcept { return static_cast<hub*>(home_now(f)); }

  // Whether the fiber, which is this kernel thread's, is in a wait that end_wait() may end.
  static bool may_end_wait(const fiber* f) noexcept {
    return f->state == fiber_status::parked && !f->waiting->uninterruptible;
  }
  // Makes a parked fiber of this kernel thread runnable; does nothing if it is not parked.
  static void wake(fiber* f, core::wake why) noexcept;
  // The same for a fiber that is known to be parked. `deep`: many frames of the runtime lie below
  // the fiber's own, as in an interposed system call.
  [[gnu::always_inline]] static void make_ready(fiber* f, core::wake why, bool deep) noexcept {
    hub& h = *of(f);
    h.waits.remove(*f->waiting);
    f->woken = why;
    f->state = fiber_status::ready;
    h.ready.push(f, deep);
  }
  // Starts a task that has not begun, and is a thread of the program's. Returns false if there is
  // no memory.
  bool begin_thread(fiber* f) noexcept;
  // Lets this hub take over a thread of the running hub: see hub_crew. False: the thread is being
  // woken just now.
  bool receive(fiber* f) noexcept;
  // Takes at most `most` fibers that can run and may move out of this hub, the newest ones, and
  // lets `to` take them over. Returns how many.
  unsigned give(hub& to, unsigned most) noexcept;
  // Moves the running fiber, a thread, to that hub, which the caller holds; to be called outside
  // the runtime. False: it must stay.
  static bool move_to(hub& to) noexcept;
  static void depart(fiber* f) noexcept;  // the second half
  // Shares with the crew what this hub has too much of; null: there is no crew. See hub_crew.
  // Unless the running fiber runs on, one that can run stays: the running one may be ending, and
  // somebody may wait for its stack to be left.
  void (*share)(hub&, bool runs_on) noexcept = nullptr;
  // For tests (TENDRIL_CHAOS): the state of a random generator, by which the hub gives away fibers
  // at any turn, delays, and wakes others for nothing. 0: off.
  std::uint64_t chaos = 0;
  // Lets this hub take over a task of the C++ API that has not begun: it shares the main fiber's
  // storage from then on. Returns false if the hub's kernel thread takes none any more. Any thread
  // that owns the task.
  bool adopt(fiber* f) noexcept;
  // From now on the hub takes over no tasks; those on their way begin now.
  void adopt_no_more() noexcept;
  // Begins a turn. Returns whether there is more to do than to take the next fiber, if there is
  // one.
  [[gnu::always_inline]] bool begin_turn() noexcept {
    return __builtin_expect(turns.begin() || !remote.empty(), false);
  }
  [[gnu::always_inline]] bool needs_refill() noexcept { return begin_turn() || ready.empty(); }
  // Returns when there is a fiber that can run.
  void refill_run_queue() noexcept;
  // Makes sure that the fiber, which is about to park, is woken at that time at the latest.
  void wake_at(fiber* f, nanoseconds when, bool precise) noexcept;
  // The next fiber to run; polls until there is one.
  fiber* next() noexcept {
    if (needs_refill()) [[unlikely]]
      refill_run_queue();
    return ready.pop();
  }
  // Called by cooperative calls that did not need to wait.
  void charge_budget() noexcept {
    if (turns.charge()) [[unlikely]]
      out_of_budget();
  }
  // Polls events, timers and the remote queue; waits for one of them if `block`.
  void poll_events(bool block) noexcept;
  // Does poll_events(false), if the last one was a while ago; and lets in signals that the running
  // thread blocks and other threads do not.
  void poll_events_if_due() noexcept;
  // Shares with the crew if fibers that can run have waited for their turn for long; at a tick, one
  // has, and the running fiber runs on.
  void share_if_crowded(bool tick) noexcept;

  // The kernel thread's list of robust mutexes in the process robust_pid; null: not asked for yet
  // (posix/locks/robust.cpp).
  void* robust_list = nullptr;
  int robust_pid = 0;

  // Another kernel thread has closed a descriptor for which a fiber of this hub may wait, or begin
  // to wait right now. Any thread.
  void note_closed(int fd) noexcept;
  void note_many_closed() noexcept;
  // Whether it waits in poll_events(). Any thread.
  bool sleeps() const noexcept { return sleeping_.load(std::memory_order_relaxed); }
  void notify() noexcept;  // ends a blocking poll_events(); any thread, async-signal-safe
  void after_fork() noexcept;
  // In a forked child: the hub's kernel thread is the parent's.
  void belongs_to_parent() noexcept;

  fiber* yielded_to_handler = nullptr;  // the fiber that let a handler run, see yield_to_handler()

  // Whether this code runs in the hub's process, not in a child that borrows our memory (vfork),
  // whose calls must not touch the hub. The kernel is asked only while there may be such a child.
  bool in_own_process() const noexcept { return vfork_children == 0 || pid == sys::getpid(); }

  // How many children borrow the memory now, as far as we saw them begin (shim/vfork.cpp); a
  // clone() that shares memory counts for ever.
  volatile int vfork_children = 0;

  hub* next_hub = nullptr;   // of hub_registry
  bool is_carriers = false;  // of a carrier: see hub_crew

  // see core::set_sleep_observer()
  sleep_observer* observer = nullptr;

  // how many tasks in transit will come to this hub, and how many other kernel threads use it: see
  // hub_crew
  atomic<unsigned> holds{0};
  // this hub's kernel thread is to answer hub_crew::call_on_others()
  atomic<bool> is_asked{false};

 private:
  void take_in(fiber* f) noexcept;
  bool take_over(fiber* f) noexcept;
  bool may_go(const fiber* f) const noexcept;
  hub* departs_to_ = nullptr;
  bool begin_adopted(fiber* f) noexcept;
  void out_of_budget() noexcept;
  void deadlock() noexcept;
  bool is_deadlocked() const noexcept;
  bool may_find_something() const noexcept;

  std::uint64_t looked_ = 0;   // arch::ticks() at the last poll_events()
  std::uint64_t crowded_ = 0;  // arch::ticks() since when fibers wait for a turn; 0: none was seen
  unsigned looks_ = 0;
  nanoseconds seen_ = 0;  // the time when the timers were last checked
  atomic<bool> sleeping_{false};
  spin_lock adopting_;
  bool adopts_ = true;  // under that lock
  atomic<bool> closed_elsewhere_{false};
  // notify() has sent a signal, since the descriptors were closed while the hub slept
  atomic<bool> nudged_{false};
  static bool takes_nudge(siginfo_t*, void*) noexcept;
};

}  // namespace tendril::core
