// The hub: what makes the fibers of one kernel thread take turns.
//
// It has no fiber and no stack of its own. A fiber that parks picks the next runnable one and jumps
// to it; only when there is none does it poll, right where it stands.
#pragma once

#include <signal.h>

#include <atomic>

#include "base/futex_lock.hpp"
#include "events/poller.hpp"
#include "fiber/fiber.hpp"
#include "scheduler/remote_queue.hpp"
#include "scheduler/run_queue.hpp"
#include "scheduler/signal_delivery.hpp"
#include "scheduler/signal_stacks.hpp"
#include "scheduler/timers.hpp"

namespace tendril::core {

// Parked fibers that are woken from outside their hub, perhaps.
struct outside_waits {
  std::uint32_t remote = 0;  // that something outside this hub may wake
  std::uint32_t shared = 0;  // that other kernel threads may wake, if there are any
  // Both at once.
  void add(const wait_info& what) noexcept { put(get() + of(what)); }
  void remove(const wait_info& what) noexcept { put(get() - of(what)); }

 private:
  static std::uint64_t of(const wait_info& what) noexcept {
    return std::uint64_t(what.shared) << 32 | what.remote;
  }
  std::uint64_t get() const noexcept { return std::uint64_t(shared) << 32 | remote; }
  void put(std::uint64_t both) noexcept {
    remote = std::uint32_t(both), shared = std::uint32_t(both >> 32);
  }
};

struct hub : fiber_home {
  ready_queue ready;
  inbox mail;
  outside_waits waits;
  core::timers timers;
  poller io;

  // The hub of the calling kernel thread, made on first use.
  static hub& here() noexcept { return *static_cast<hub*>(ensure_current()->home); }
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
    return __builtin_expect((turns & 31) == 0 || !mail.empty(), false);
  }
  [[gnu::always_inline]] bool is_to_look_around() noexcept { return begin_turn() || ready.empty(); }
  // Ends with a fiber that can run.
  void look_around() noexcept;
  // That the fiber, which is about to park, is woken then at the latest.
  void wake_at(fiber* f, nanoseconds when, bool precise) noexcept;
  // The next fiber to run; polls until there is one.
  fiber* next() noexcept {
    if (is_to_look_around()) [[unlikely]]
      look_around();
    return ready.pop();
  }
  // Called by cooperative calls that did not need to wait: a fiber whose descriptor is never empty
  // has to let others run now and then.
  void breathe() noexcept {
    if (breath_turn_ != turns_) breath_turn_ = turns_, breath_ = full_breath;
    if (--breath_ == 0) [[unlikely]]
      out_of_breath();
  }
  // Between the two the running fiber is inside the runtime: handlers wait. See handlers_wait.
  void enter() noexcept {
    inside = inside + 1;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  void leave() noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    inside = inside - 1;
    if (inside == 0 && handlers_due()) [[unlikely]]
      run_handlers_due();
  }
  // Looks at events, timers and the inbox; waits for one of them if `block`.
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

  // --- signals (signal_delivery.cpp) ---
  // A signal has come whose handler cannot run here and now. False: no memory. Any thread,
  // async-signal-safe.
  bool put_off(int signal, const siginfo_t& info, thread_storage* target,
               std::atomic<int>* overruns = nullptr) noexcept;
  // The thread whose handler runs for a signal that came for the process; null: none lets it
  // through.
  thread_storage* taker(int signal) noexcept;
  // Whether that thread's own fiber will run its handlers by itself.
  bool runs_its_own(const thread_storage& t) const noexcept;
  // A handler of that thread has run, on any of its fibers.
  void note_handled(thread_storage& t, bool restart) noexcept;
  // Sends a signal to a thread of this hub. -EAGAIN. Own kernel thread, inside the runtime.
  int post(thread_storage& t, int signal, const siginfo_t& info) noexcept;
  // Forgets what the timer has sent and nobody has handled yet. Own kernel thread, inside the
  // runtime.
  void drop_timer_signals(int timer) noexcept;
  // Takes the first signal that is pending for that thread alone and in the set; false: none.
  bool take_pending(thread_storage& t, std::uint64_t set, siginfo_t& info) noexcept;
  // The thread's mask is another now, or is to be. The second sets the running thread's in the
  // kernel too.
  void mask_is(thread_storage& t, std::uint64_t mask) noexcept;
  void set_mask(std::uint64_t mask) noexcept;
  std::uint64_t own_mask() noexcept;  // the running thread's
  // There are several threads from now on; one more, which the running one has made; one less.
  void begin_threads() noexcept;
  void thread_begins(thread_storage& t, fiber* owner, std::uint64_t mask) noexcept;
  void thread_ends(thread_storage& t) noexcept;
  // Lets the handlers run that are due for the running fiber, here. They may never return
  // (siglongjmp).
  void run_handlers() noexcept;
  // The same as the running fiber leaves the runtime, if it is the one to do it.
  void run_handlers_due() noexcept;
  // The running thread is about to return, with all signals blocked, from a handler of the
  // runtime's own to what that has interrupted, and to `mask`: what is due is sent so that the
  // program's handler runs there before anything else, if `has_handler` says that the kernel has
  // ours for it.
  void deliver_on_return(std::uint64_t& mask, bool (*has_handler)(int signal) noexcept) noexcept;
  // Whom the signals are for that have come.
  void sort_arrivals() noexcept;
  signal_stacks own_stacks;  // from the first thread on
  bool handlers_due() const noexcept { return handlers_are_due; }
  void look_for_handlers() noexcept { handlers_are_due = true; }
  // The running fiber is interrupted by a handler of another thread, which runs at once and comes
  // back here.
  void step_aside_for(fiber* f) noexcept;
  unsigned asides = 0;  // how often that was asked for by who has sent the signal
  // what the running thread sends to itself by raise() or pthread_kill()
  volatile int sending_to_self = 0;
  // What run_handlers() has sent to itself.
  struct {
    volatile int signal = 0;
    thread_storage* target = nullptr;
    std::uint64_t mask = 0;           // the thread's own
    const siginfo_t* info = nullptr;  // which the kernel may have no room for
  } delivery;
  siginfo_t delivered_on_return;
  // The main thread; in a child of fork the one that forked.
  fiber* first = &main;
  // The kernel thread's list of robust mutexes, as it was in that process; null: not asked for yet
  // (posix/locks/robust.cpp).
  void* robust_list = nullptr;
  int robust_pid = 0;
  unsigned sharing_waits = 0;  // fibers without a thread of their own that wait for any handler

  // Some descriptor on which a fiber of this hub may be parked was closed by another kernel thread.
  // Any thread.
  void note_closed() noexcept;
  // For who watches from another thread: how often a fiber gave way, and whether the hub sleeps.
  unsigned turns() const noexcept {
    return std::atomic_ref(const_cast<unsigned&>(turns_)).load(std::memory_order_relaxed);
  }
  bool sleeps() const noexcept { return sleeping_.load(std::memory_order_relaxed); }
  void ring() noexcept;  // ends a blocking look(); any thread, async-signal-safe
  void after_fork() noexcept;
  // The kernel thread ends: unwinds what is unfinished.
  void shut_down() noexcept;

  // Whether this code runs in the hub's process, not in a child that borrows our memory (vfork),
  // whose calls are not to touch the hub. Only while there may be such a child the kernel is asked.
  bool in_own_process() const noexcept { return borrowers == 0 || pid == sys::getpid(); }

  // All hubs of the process, for close() and fork(). Calls f(hub&) under a lock.
  template <class F>
  static void for_each(F f) noexcept;
  static bool any() noexcept { return registry.load(std::memory_order_relaxed) != nullptr; }

  std::uint64_t handlers_begun = 0;

  // The children that borrow the memory now, as far as we saw them begin (shim/vfork.cpp); a
  // clone() that shares memory counts for ever.
  volatile int borrowers = 0;

  hub* next_hub = nullptr;
  static std::atomic<hub*> registry;
  static spin_lock registry_lock;
  static std::atomic<int> helper_threads;
  static std::atomic<int> count;  // of all hubs

 private:
  void out_of_breath() noexcept;
  void add_pending(thread_storage& t, pending_signal* p) noexcept;
  void deliver(thread_storage& t) noexcept;
  void let_masked_signals_in() noexcept;
  void come_back() noexcept;
  void stand_behind(fiber* f) noexcept;
  void after_fork_signals() noexcept;
  void deadlock() noexcept;
  bool hopeless() const noexcept;
  bool may_find_something() const noexcept;

  static constexpr unsigned full_breath = 64;
  unsigned turns_ = 0;
  unsigned breath_ = full_breath;
  unsigned breath_turn_ = 0;                       // the turn in which it is counted
  std::uint64_t looked_ = 0;                       // arch::ticks() at the last look
  std::atomic<pending_signal*> arrived_{nullptr};  // last first
  fiber* aside_ = nullptr;                         // has stepped aside for a handler
  nanoseconds trim_at_ = 0;
  bool trims_more_ = false;  // the last round of it left something
  unsigned looks_ = 0;
  nanoseconds seen_ = 0;  // the time, as the timers were last looked at
  std::atomic<bool> sleeping_{false};
  std::atomic<bool> closed_elsewhere_{false};
  std::atomic<bool> nudged_{false};  // by a signal: its descriptors have been closed in its sleep
  static bool takes_nudge(siginfo_t*, void*) noexcept;
};

// While one lives, no signal handler runs: it might find the runtime half changed, and leave it so
// by siglongjmp. Handlers run as soon as the fiber has left the outermost.
class handlers_wait {
 public:
  explicit handlers_wait(hub& h) noexcept : hub_(h) { hub_.enter(); }
  ~handlers_wait() { hub_.leave(); }
  handlers_wait(const handlers_wait&) = delete;

 private:
  hub& hub_;
};

// The same for any kernel thread, with fibers or without.
class undisturbed {
 public:
  undisturbed() noexcept {
    if (mine_) [[likely]]
      mine_->enter();
    else mask_ = set_mask(SIG_BLOCK, ~0ULL);
  }
  ~undisturbed() {
    if (mine_) [[likely]]
      mine_->leave();
    else set_mask(SIG_SETMASK, mask_);
  }
  undisturbed(const undisturbed&) = delete;

 private:
  // Returns what it was.
  [[gnu::noinline]] static std::uint64_t set_mask(int how, std::uint64_t mask) noexcept {
    std::uint64_t old = 0;
    sys::call(SYS_rt_sigprocmask, how, &mask, &old, 8);
    return old;
  }

  hub* mine_ = current ? hub::of(current) : nullptr;
  std::uint64_t mask_ = 0;
};

class registry_guard {
 public:
 private:
  // a handler that closes a descriptor would wait for ever for the lock that it has interrupted
  undisturbed quiet_;
  spin_guard held_{hub::registry_lock};
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
