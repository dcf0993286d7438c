// What a thread has to itself of signals(7): its mask, what is pending for it alone, the handlers
// that it is in. A thread is a kernel thread with the fibers on its own storage, or a fiber with
// storage of its own; all threads of one kernel thread share its mask in the kernel, which is that
// of the thread that runs.
#pragma once

#include <signal.h>

#include <atomic>
#include <cstdint>

namespace tendril::core {

struct fiber;
struct pending_signal;  // lib/scheduler/signal_delivery.hpp
struct own_stack;       // lib/scheduler/signal_stacks.hpp

// One that runs, as far as we know: a handler may leave by siglongjmp, which shows only by its mark
// being gone.
struct running_handler {
  const std::uint64_t* mark;  // in its frame
  std::uint64_t serial;       // what is to be read there
};

// What makes a switch to the thread or away from it more than a plain one.
struct alignas(8) signal_flags {
  // a handler ran, which may have left by siglongjmp: the kernel knows the mask
  bool unsure = false;
  volatile bool due = false;  // something is pending that it lets through
  volatile int depth = 0;     // how many handlers it is in
  // Whether one of them is set: a question for one look.
  bool any() const noexcept {
    std::uint64_t all;
    __builtin_memcpy(&all, this, sizeof all);
    return all != 0;
  }
};
static_assert(sizeof(signal_flags) == sizeof(std::uint64_t));

struct signal_state : signal_flags {
  std::uint64_t mask = 0;  // what the kernel's is while the thread runs
  bool gone = false;       // the thread has ended
  fiber* owner = nullptr;  // the fiber whose calls its handlers interrupt
  volatile std::uint64_t pending = 0;
  pending_signal* first = nullptr;
  std::uint64_t awaited = 0;  // what its owner waits for in sigwait(3) and its kin
  // Handlers that ran for it, and those among them without SA_RESTART.
  std::atomic<std::uint32_t> handled{0};
  std::atomic<std::uint32_t> handled_norestart{0};
  static constexpr int most_handlers = 8;
  running_handler handlers[most_handlers] = {};  // outermost first
  // The alternate signal stack that the program has set for the thread, and the one that a handler
  // last began on, which SS_AUTODISARM makes the former forget meanwhile. The kernel knows neither
  // once there are threads (signal_stacks.hpp).
  stack_t stack = {nullptr, SS_DISABLE, 0};
  stack_t entered = {nullptr, SS_DISABLE, 0};
  own_stack* left = nullptr;  // on which it was cancelled, never to return there
  // The fibers on this storage that wait with a mask of their own, and the mask that was there
  // before the first.
  unsigned masked = 0;
  std::uint64_t mask_before = 0;
  // Those that are in system(3), and whether SIGCHLD was blocked before the first of them blocked
  // it.
  unsigned child_signal_blocks = 0;
  bool child_signal_blocked_before = false;
};

// What all threads of a kernel thread block: only that may be blocked while it sleeps.
class signal_masks {
 public:
  std::uint64_t intersection() const noexcept { return all_; }
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
