// Signals on their way to a thread: which thread handles a signal for the process, and the queue of
// signals whose thread cannot run the handler yet, or blocks them.
//
// A pending signal is kept with its siginfo. When it can be handled, its thread sends it to itself
// once more, so that the kernel makes the frame, with the mask, the stack and the flags that the
// program asked for.
#pragma once

#include <signal.h>

#include <atomic>
#include <cstdint>

#include "fiber/fiber.hpp"
#include "scheduler/signal_stacks.hpp"

namespace tendril::core {

struct pending_signal {
  std::atomic<bool> used{false};
  bool loaned = false;  // to the kernel, see posix/signals/signalfd_loan.hpp
  int signal = 0;
  pending_signal* next = nullptr;
  thread_storage* target = nullptr;  // null: the process
  // Where to store the overruns of the timer that sent it when it is handled; null: nowhere.
  std::atomic<int>* overruns = nullptr;
  siginfo_t info;
};

// Null: too many are pending. Any thread, async-signal-safe.
pending_signal* make_pending(int signal, const siginfo_t& info, thread_storage* target,
                             std::atomic<int>* overruns = nullptr) noexcept;
void drop_pending(pending_signal* p) noexcept;

inline std::uint64_t signal_bit(int signal) noexcept { return 1ULL << (signal - 1); }
inline std::uint64_t mask_of(const sigset_t& s) noexcept {
  std::uint64_t m;
  __builtin_memcpy(&m, &s, sizeof m);
  return m;
}

// The signals of one hub's threads. The hub owns it, and calls it on its own kernel thread, unless
// a function says otherwise.
class signal_delivery {
 public:
  // What it needs of the hub.
  struct hub_part {
    void (*wake)(fiber*, core::wake) noexcept;  // as hub::wake
    void (*notify)(fiber_home&) noexcept;       // as hub::notify
    // Another kernel thread wants the hub's running thread to look for handlers.
    void (*interrupt)(fiber_home&) noexcept;
  };
  signal_delivery(fiber_home& home, hub_part calls) noexcept
      : first(&home.main), home_(home), calls_(calls) {}
  signal_delivery(const signal_delivery&) = delete;

  // Keeps a signal that has arrived and whose handler cannot run here and now. Returns false if
  // there is no memory. Any thread, async-signal-safe.
  bool defer_signal(int signal, const siginfo_t& info, thread_storage* target,
                    std::atomic<int>* overruns = nullptr) noexcept;
  // The same for a signal that is kept already, because its thread runs on this hub.
  void accept(pending_signal* p) noexcept;
  // Whether a signal has arrived that sort_arrivals() has not seen yet. Any thread.
  bool has_arrivals() const noexcept { return arrived_.load(); }
  // Gives each signal that has arrived to its thread.
  void sort_arrivals() noexcept;
  // The thread whose handler runs for a signal that was sent to the process; null: all block it.
  thread_storage* signal_target(int signal) noexcept;
  // Whether that thread's own fiber will run the thread's handlers by itself.
  bool runs_its_own(const thread_storage& t) const noexcept;
  // A handler of that thread has run, on any of its fibers.
  void note_handled(thread_storage& t, bool restart) noexcept;
  // Sends a signal to a thread of this hub. Returns 0 or -EAGAIN. To be called inside the runtime.
  int post(thread_storage& t, int signal, const siginfo_t& info) noexcept;
  // Drops the timer's signals that have not been handled yet. To be called inside the runtime.
  void drop_timer_signals(int timer) noexcept;
  // Takes the first signal in the set that is pending for that thread alone; false: there is none.
  bool take_pending(thread_storage& t, std::uint64_t set, siginfo_t& info) noexcept;

  // mask_is(): the thread's mask has become this one. set_mask() also sets the running thread's
  // mask in the kernel.
  void mask_is(thread_storage& t, std::uint64_t mask) noexcept;
  void set_mask(std::uint64_t mask) noexcept;
  std::uint64_t own_mask() noexcept;  // the running thread's, from the kernel
  // Lets in, for a moment, signals that the running thread blocks and other threads do not.
  void let_masked_signals_in() noexcept;

  // From now on there are several threads, and this hub runs the main one.
  void begin_threads() noexcept;
  // The same for a hub that does not run the main thread: that is on the hub of `mains`.
  void join(const signal_delivery& mains) noexcept;
  // Hands a kept signal, which names its target, to the target's hub. Set by the crew.
  void (*forward)(pending_signal* p) noexcept = nullptr;
  // A thread is about to begin, on any hub; a thread of this hub has ended.
  void thread_begins(thread_storage& t, fiber* owner, std::uint64_t mask) noexcept;
  void thread_ends(thread_storage& t) noexcept;

  // Runs the handlers that are due for the running fiber, here. They may never return (siglongjmp).
  void run_handlers() noexcept;
  // The same when the running fiber leaves the runtime, unless another fiber is to run them.
  // (Called by core::run_handlers_due, which does more.)
  void run_handlers_due() noexcept;
  // The same for the main thread, while the hub polls on another fiber's stack. The main thread's
  // own fiber runs them if it can, since a handler may leave by siglongjmp; if it cannot, they run
  // here.
  void run_handlers_of_main() noexcept;
  // Called with all signals blocked, before one of the runtime's own handlers returns to the
  // interrupted code and to `mask`. Sends a due signal to this kernel thread and changes `mask`, so
  // that the program's handler runs there before anything else. It considers only signals for which
  // `has_handler` says that the kernel calls our handler.
  void deliver_on_return(std::uint64_t& mask, bool (*has_handler)(int signal) noexcept) noexcept;

  void after_fork() noexcept;

  signal_stacks own_stacks;  // in use from the first thread on
  // The main thread's fiber, which may be on another hub; in a child of fork, that of the thread
  // that forked.
  fiber* first;
  bool has_main() const noexcept { return first->home == &home_; }
  // the signal that the running thread is sending to itself by raise() or pthread_kill()
  volatile int sending_to_self = 0;
  // The signal that deliver() or deliver_on_return() has sent to this kernel thread.
  struct {
    volatile int signal = 0;
    thread_storage* target = nullptr;
    std::uint64_t mask = 0;           // the thread's own
    const siginfo_t* info = nullptr;  // complete, while the kernel may have had no room for it
  } delivery;
  // fibers that wait for any handler and are not their thread's own fiber
  unsigned sharing_waits = 0;
  std::uint64_t handlers_begun = 0;
  // how often a fiber that sent a signal has asked for yield_to_handler()
  unsigned handler_yields = 0;

 private:
  void add_pending(thread_storage& t, pending_signal* p) noexcept;
  void deliver(thread_storage& t) noexcept;

  fiber_home& home_;
  hub_part calls_;
  std::atomic<pending_signal*> arrived_{nullptr};  // newest first
  siginfo_t delivered_on_return_;
};

}  // namespace tendril::core
