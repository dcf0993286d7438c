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
// Whether that is the handler which watch_overflow() installs: the program is to see none.
bool is_overflow_handler(void (*handler)(int, siginfo_t*, void*)) noexcept;

}  // namespace tendril::core
