// The alternate signal stack of a kernel thread that has set none itself: the report of an
// overflowed stack (scheduler/stack_overflow.hpp) needs one.
#pragma once

#include <signal.h>

#include "fiber/fiber.hpp"

namespace tendril::core {

// Gives the calling kernel thread one, unless it has one or the program has its own.
void set_signal_stack(fiber_home& home) noexcept;
// The alternate stack of a kernel thread without threads that has not asked for one.
stack_t usual_signal_stack(const fiber_home& home) noexcept;
// The program has handlers, not only for faults, that are to run on its alternate stack, if it has
// one, which a run-time of its own (Go's) may set unseen: ours goes, and no other kernel thread
// gets one.
void program_has_signal_stacks() noexcept;
// The kernel thread ends.
void drop_signal_stack(fiber_home& home) noexcept;

}  // namespace tendril::core
