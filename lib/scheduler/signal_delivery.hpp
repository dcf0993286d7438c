// Signals on their way to a thread: which thread takes one that came for the process, and the queue
// of those that have to wait until their thread can run the handler, or lets it through.
//
// A signal that waits is kept here as it came. Its thread sends it to itself once more when its
// time has come, and so the kernel makes the frame, with the mask, the stack and the flags that the
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
  bool lent = false;  // to the kernel, see posix/signals/signalfd_loan.hpp
  int signal = 0;
  pending_signal* next = nullptr;
  thread_storage* target = nullptr;  // null: the process
  // Where the timer that sent it wants its overruns when it is handled; null: nowhere.
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

// The signals of one hub's threads. The hub owns it and calls it on its own kernel thread, where
// nothing else is said.
class signal_delivery {
 public:
  // What it has the hub do.
  struct hub_part {
    void (*wake)(fiber*, core::wake) noexcept;  // as hub::wake
    void (*ring)(fiber_home&) noexcept;         // as hub::ring
  };
  signal_delivery(fiber_home& home, hub_part calls) noexcept
      : first(&home.main), home_(home), calls_(calls) {}
  signal_delivery(const signal_delivery&) = delete;

  // A signal has come whose handler cannot run here and now. False: no memory. Any thread,
  // async-signal-safe.
  bool defer_signal(int signal, const siginfo_t& info, thread_storage* target,
                    std::atomic<int>* overruns = nullptr) noexcept;
  // Whether one has come that sort_arrivals() has not seen yet. Any thread.
  bool has_arrivals() const noexcept { return arrived_.load(); }
  // Whom the signals are for that have come.
  void sort_arrivals() noexcept;
  // The thread whose handler runs for a signal that came for the process; null: none lets it
  // through.
  thread_storage* signal_target(int signal) noexcept;
  // Whether that thread's own fiber will run its handlers by itself.
  bool runs_its_own(const thread_storage& t) const noexcept;
  // A handler of that thread has run, on any of its fibers.
  void note_handled(thread_storage& t, bool restart) noexcept;
  // Sends a signal to a thread of this hub. -EAGAIN. Inside the runtime.
  int post(thread_storage& t, int signal, const siginfo_t& info) noexcept;
  // Forgets what the timer has sent and nobody has handled yet. Inside the runtime.
  void drop_timer_signals(int timer) noexcept;
  // Takes the first signal that is pending for that thread alone and in the set; false: none.
  bool take_pending(thread_storage& t, std::uint64_t set, siginfo_t& info) noexcept;

  // The thread's mask is another now, or is to be. The second sets the running thread's in the
  // kernel too.
  void mask_is(thread_storage& t, std::uint64_t mask) noexcept;
  void set_mask(std::uint64_t mask) noexcept;
  std::uint64_t own_mask() noexcept;  // the running thread's
  // Lets in, for a moment, what the running thread blocks and others do not.
  void let_masked_signals_in() noexcept;

  // There are several threads from now on; one more, which the running one has made; one less.
  void begin_threads() noexcept;
  void thread_begins(thread_storage& t, fiber* owner, std::uint64_t mask) noexcept;
  void thread_ends(thread_storage& t) noexcept;

  // Lets the handlers run that are due for the running fiber, here. They may never return
  // (siglongjmp).
  void run_handlers() noexcept;
  // The same as the running fiber leaves the runtime, if it is the one to do it. (Called by
  // core::run_handlers_due, which has more to do.)
  void run_handlers_due() noexcept;
  // The same while the hub polls on the running fiber's stack, for the main thread: it runs them
  // where it waits, since a handler may leave by siglongjmp; if it cannot, they run here.
  void run_handlers_of_main() noexcept;
  // The running thread is about to return, with all signals blocked, from a handler of the
  // runtime's own to what that has interrupted, and to `mask`: what is due is sent so that the
  // program's handler runs there before anything else, if `has_handler` says that the kernel has
  // ours for it.
  void deliver_on_return(std::uint64_t& mask, bool (*has_handler)(int signal) noexcept) noexcept;

  void after_fork() noexcept;

  signal_stacks own_stacks;  // from the first thread on
  // The main thread; in a child of fork the one that forked.
  fiber* first;
  // what the running thread sends to itself by raise() or pthread_kill()
  volatile int sending_to_self = 0;
  // What run_handlers() has sent to itself.
  struct {
    volatile int signal = 0;
    thread_storage* target = nullptr;
    std::uint64_t mask = 0;           // the thread's own
    const siginfo_t* info = nullptr;  // which the kernel may have no room for
  } delivery;
  unsigned sharing_waits = 0;  // fibers without a thread of their own that wait for any handler
  std::uint64_t handlers_begun = 0;
  // how often yield_to_handler() was asked for by who has sent the signal
  unsigned handler_yields = 0;

 private:
  void add_pending(thread_storage& t, pending_signal* p) noexcept;
  void deliver(thread_storage& t) noexcept;

  fiber_home& home_;
  hub_part calls_;
  std::atomic<pending_signal*> arrived_{nullptr};  // last first
  siginfo_t delivered_on_return_;
};

}  // namespace tendril::core
