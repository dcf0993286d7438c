// The runtime's own alternate signal stacks, see sigaltstack(2).
//
// From the first thread on the kernel knows one of these as the kernel thread's, and never the
// program's: a thread may run on a small stack of the program's making (a coroutine's) that has no
// room for the frame of the tick's signal. A thread that is made to give way on one keeps it until
// it runs again, and the kernel gets another meanwhile. What the program knows of its alternate
// stacks is kept in signal_state; a handler of its own that is to run on one (SA_ONSTACK) begins on
// ours, and moves at once to where the kernel would have begun it.
#pragma once

#include <signal.h>

#include <cstddef>

namespace tendril::core {

struct own_stack;

class signal_stacks {
 public:
  // Whether p lies on the one that is set.
  bool holds(const void* p) const noexcept;
  // As the kernel is to know the one that is set.
  stack_t kernels() const noexcept;
  // Sets one. False: no memory. Signals may come meanwhile.
  bool set() noexcept;
  // The caller, whose frame is `frame`, may wait. If it stands on the one that is set, another is
  // set from now on, and the former returned. `failed`: no memory; then nothing has changed.
  own_stack* keep(const void* frame, bool& failed) noexcept;
  // The other end of that: with all signals blocked, before the handler returns to a mask and to
  // `after`.
  void keep_no_longer(own_stack* kept, stack_t& after) noexcept;
  // A kept one that was left for good.
  void give_back(own_stack* s) noexcept;

 private:
  own_stack* take() noexcept;
  own_stack* set_ = nullptr;
  own_stack* free_ = nullptr;
  unsigned count_ = 0;  // of free ones
};

inline bool stands_on(const stack_t& stack, const void* sp) noexcept {
  auto* bottom = static_cast<const char*>(stack.ss_sp);
  return stack.ss_size && sp > bottom && sp <= bottom + stack.ss_size;  // as the kernel has it
}

}  // namespace tendril::core
