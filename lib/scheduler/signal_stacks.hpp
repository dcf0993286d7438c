// The runtime's own alternate signal stacks, see sigaltstack(2).
//
// From the first thread on, the kernel knows one of these as the kernel thread's alternate stack,
// never the program's: a thread may run on a small stack that the program has made (a coroutine's),
// with no room for the frame of the tick's signal. A thread that is preempted on one keeps it until
// it runs again, and the kernel gets another one meanwhile. The program's own alternate stacks are
// recorded in signal_state: a handler of the program that should run on one (SA_ONSTACK) starts on
// ours, and moves at once to where the kernel would have started it.
#pragma once

#include <signal.h>

#include <cstddef>

namespace tendril::core {

struct own_stack;

class signal_stacks {
 public:
  // Whether p lies on the stack that is set.
  bool holds(const void* p) const noexcept;
  // The stack that is set, as the kernel should know it.
  stack_t kernels() const noexcept;
  // Sets one in the kernel. Returns false if there is no memory. Signals may arrive meanwhile.
  bool set() noexcept;
  // The caller, whose frame is `frame`, may wait. If it runs on the stack that is set, another one
  // is set from now on, and the former is returned. `failed`: there is no memory, and nothing has
  // changed.
  own_stack* keep(const void* frame, bool& failed) noexcept;
  // Undoes keep(): to be called with all signals blocked, before the handler returns to a mask and
  // to the alternate stack `after`.
  void keep_no_longer(own_stack* kept, stack_t& after) noexcept;
  // Gives back a kept stack to which nothing returns.
  void give_back(own_stack* s) noexcept;

 private:
  own_stack* take() noexcept;
  own_stack* set_ = nullptr;
  own_stack* free_ = nullptr;
  unsigned count_ = 0;  // of free stacks
};

inline bool stands_on(const stack_t& stack, const void* sp) noexcept {
  auto* bottom = static_cast<const char*>(stack.ss_sp);
  return stack.ss_size && sp > bottom && sp <= bottom + stack.ss_size;  // the kernel's definition
}

}  // namespace tendril::core
