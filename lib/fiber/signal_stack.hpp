// An alternate signal stack for a kernel thread that has not set one itself: the report of an
// overflowed stack (scheduler/stack_overflow.hpp) needs it.
#pragma once

#include <signal.h>

#include "fiber/fiber.hpp"

namespace tendril::core {

// Gives the calling kernel thread one, unless it has one or the program uses its own.
void set_signal_stack(fiber_home& home) noexcept;
// The alternate stack of a kernel thread that has no threads and has not set one itself.
stack_t usual_signal_stack(const fiber_home& home) noexcept;
// The program has installed handlers, not only for faults, that run on the alternate stack. They
// expect the program's, which a language run-time (Go's) may set without our seeing it. So ours is
// removed, and no other kernel thread gets one.
void program_has_signal_stacks() noexcept;
// The kernel thread ends.
void drop_signal_stack(fiber_home& home) noexcept;

}  // namespace tendril::core
