// A thread's own share of signals(7): its mask, the signals pending for it alone, the handlers that
// it is running. A thread is either a kernel thread with the fibers on its own storage, or a fiber
// with storage of its own. All threads of one kernel thread share its mask in the kernel, which is
// the running thread's.
#pragma once

#include <signal.h>

#include <atomic>
#include <cstdint>

namespace tendril::core {

struct fiber;
struct pending_signal;  // lib/scheduler/signal_delivery.hpp
struct own_stack;       // lib/scheduler/signal_stacks.hpp

// A handler that is running, as far as we know: it may have left by siglongjmp, which is noticed
// only because its mark has been overwritten.
struct running_handler {
  const std::uint64_t* mark;  // in the handler's frame
  std::uint64_t serial;       // the value of *mark while the handler runs
};

// The reasons why a switch to or from the thread cannot be a plain one.
struct alignas(8) signal_flags {
  // A handler ran that may have left by siglongjmp, so `mask` may be stale: ask the kernel.
  bool unsure = false;
  volatile bool due = false;  // a signal is pending that the mask does not block
  volatile int depth = 0;     // how many handlers it is running
  // Whether any of them is set, with a single load.
  bool any() const noexcept {
    std::uint64_t all;
    __builtin_memcpy(&all, this, sizeof all);
    return all != 0;
  }
};
static_assert(sizeof(signal_flags) == sizeof(std::uint64_t));

struct signal_state : signal_flags {
  std::uint64_t mask = 0;  // the kernel's mask while the thread runs
  bool gone = false;       // the thread has ended
  fiber* owner = nullptr;  // the fiber whose calls its handlers interrupt
  volatile std::uint64_t pending = 0;
  pending_signal* first = nullptr;
  std::uint64_t awaited = 0;  // what its owner awaits in sigwait(3) and its kin
  // How many handlers have run for it, and how many of those without SA_RESTART.
  std::atomic<std::uint32_t> handled{0};
  std::atomic<std::uint32_t> handled_norestart{0};
  static constexpr int most_handlers = 8;
  running_handler handlers[most_handlers] = {};  // outermost first
  // The alternate signal stack that the program has set for the thread, and the one that a handler
  // last started on: with SS_AUTODISARM, `stack` is disabled until that handler returns. Once there
  // are threads, the kernel knows neither (signal_stacks.hpp).
  stack_t stack = {nullptr, SS_DISABLE, 0};
  stack_t entered = {nullptr, SS_DISABLE, 0};
  own_stack* left = nullptr;  // the stack on which it was cancelled, to which it never returns
  // How many fibers on this storage wait with a signal mask of their own, and the mask before the
  // first of them did so.
  unsigned masked = 0;
  std::uint64_t mask_before = 0;
  // How many fibers on this storage are in system(3), and whether SIGCHLD was already blocked
  // before the first of them blocked it.
  unsigned child_signal_blocks = 0;
  bool child_signal_blocked_before = false;
};

// The signals that all threads of a kernel thread block: only those may be blocked while it sleeps.
class signal_masks {
 public:
  // All signals, if there are no threads.
  std::uint64_t intersection() const noexcept { return threads_ ? all_ : ~0ULL; }
  bool differ() const noexcept { return any_ != all_; }
  unsigned threads() const noexcept { return threads_; }
  void add(std::uint64_t mask) noexcept {
    threads_++;
    each(mask, [&](int s) { blocked_by_[s]++; });
    all_ = threads_ == 1 ? mask : all_ & mask;
    any_ |= mask;
  }
  void remove(std::uint64_t mask) noexcept {
    threads_--;
    each(any_, [&](int s) { set(s, blocked_by_[s] - (mask >> s & 1)); });
  }
  void change(std::uint64_t from, std::uint64_t to) noexcept {
    each(from ^ to, [&](int s) { set(s, to >> s & 1 ? blocked_by_[s] + 1 : blocked_by_[s] - 1); });
  }
  void clear() noexcept { *this = {}; }

 private:
  template <class F>
  static void each(std::uint64_t bits, F f) noexcept {
    for (; bits; bits &= bits - 1) f(__builtin_ctzll(bits));
  }
  void set(int s, std::uint64_t count) noexcept {
    blocked_by_[s] = unsigned(count);
    std::uint64_t bit = 1ULL << s;
    any_ = count ? any_ | bit : any_ & ~bit;
    all_ = count && count == threads_ ? all_ | bit : all_ & ~bit;
  }
  unsigned threads_ = 0;
  std::uint64_t all_ = 0, any_ = 0;
  unsigned blocked_by_[64] = {};
};

}  // namespace tendril::core
