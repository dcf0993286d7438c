// Saying which fiber overflowed its stack, before the fault ends the process.
#pragma once

#include <signal.h>

#include "fiber/fiber.hpp"

namespace tendril::core {

// Called when a kernel thread makes its first fiber. If nobody handles SIGSEGV, it is handled from
// now on, and the kernel thread gets an alternate signal stack unless it has one: a fault in the
// running fiber's guard, or between it and the stack pointer, prints one line. Then that fault, and
// any other, has its default action.
void watch_overflow(fiber_home& home) noexcept;
// A signal has come: whether it was for code on one of the stacks, which a library that was loaded
// since has made right. They may hold code from now on, and the instruction is to be tried again.
bool allows_code(const siginfo_t& info, const void* where) noexcept;
// The alternate stack of a kernel thread without threads that has not asked for one.
stack_t usual_signal_stack(const fiber_home& home) noexcept;
// The program has handlers, not only for faults, that are to run on its alternate stack, if it has
// one, which a run-time of its own (Go's) may set unseen: ours goes, and no other kernel thread
// gets one.
void program_has_signal_stacks() noexcept;
// Whether that is the handler which is installed then: the program is to see none.
bool is_overflow_handler(void (*handler)(int, siginfo_t*, void*)) noexcept;
// The kernel thread ends.
void drop_signal_stack(fiber_home& home) noexcept;

}  // namespace tendril::core
