// Reports which fiber overflowed its stack, before the fault ends the process.
#pragma once

#include <signal.h>

#include "fiber/fiber.hpp"

namespace tendril::core {

// Called when a kernel thread makes its first fiber. If there is no handler for SIGSEGV, installs
// one, and gives the kernel thread an alternate signal stack unless it has one. A fault in the
// running fiber's guard, or between the guard and the stack pointer, prints one line. Then that
// fault, and any other, has its default action.
void watch_overflow(fiber_home& home) noexcept;
// Called for a signal. Returns whether it was raised by executing code on one of the stacks, which
// has become legal because a library was loaded since. Then the stacks are made executable, and the
// instruction must be retried.
bool allows_code(const siginfo_t& info, const void* where) noexcept;
// Whether that is the handler that watch_overflow() installs, which is hidden from the program.
bool is_overflow_handler(void (*handler)(int, siginfo_t*, void*)) noexcept;

}  // namespace tendril::core
