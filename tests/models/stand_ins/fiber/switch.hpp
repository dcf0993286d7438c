// In place of lib/fiber/switch.hpp: a task runs to its end on the stack of the fiber that lets it
// run.
#pragma once

#include "fiber/fiber.hpp"

namespace tendril::core {

inline void take_turns(fiber* self, fiber* to) noexcept {
  for (; to != self; to = self->home->calls->next(self->home)) {
    current = to;
    to->state = fiber_status::running;
    to->run(*to);
    current = self;  // on whose stack the hub looks for the next one
    if (to->state == fiber_status::parked) continue;
    to->unlink();
    to->state = fiber_status::finished;
    to->home->unfinished--;
    fiber_unref(to);
  }
  current = self;
  self->state = fiber_status::running;
}

// For threads that move by themselves, which no model has.
inline void switch_to(fiber*, fiber*) noexcept {}

// The fast paths, which no fiber of a model takes.
inline bool can_leave_fast(const fiber*) noexcept { return false; }
inline void enter(fiber*, fiber*) noexcept {}
inline fiber* who_left(void* cargo) noexcept { return static_cast<fiber*>(cargo); }
inline void post_switch(fiber*, fiber*) noexcept {}
inline void arrive(fiber*, void*, void*) noexcept {}
inline switch_result jump_ending(void*, void* self) noexcept { return {nullptr, self}; }
inline switch_result no_switch(std::uintptr_t) noexcept { return {}; }

}  // namespace tendril::core
