// The trace callback, called after each switch on its kernel thread.
#pragma once

#include "fiber/fiber.hpp"

namespace tendril::core {

// Like set_tracer(), for that home's kernel thread, which must be the caller.
void trace(fiber_home* home, tracer t, void* context, void (*drop)(void*) noexcept) noexcept;
// Reports that the running fiber, `self`, was switched to from another one.
void report_to_tracer(fiber* from, fiber* self) noexcept;

}  // namespace tendril::core
