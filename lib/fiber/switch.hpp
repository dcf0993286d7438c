// The switch from one fiber to another, and what travels with it.
#pragma once

#include "fiber/fiber.hpp"

namespace tendril::core {

// The post-switch work, which is rarely needed: the fiber that control came from has ended or has
// no handles, or a tracer is set.
void post_switch(fiber* from, fiber* self) noexcept;

// The message that the running fiber was sent, with an exception of the trace callback if there is
// one.
inline message* take_inbound_message(fiber* self) noexcept {
  message* m = self->inbound_message;
  self->inbound_message = nullptr;
  if (!m) return m;
  fiber_home* home = self->home;
  m->reap_due = home->to_reap;
  if (home->trace_failure) [[unlikely]] {
    m->value_type = nullptr;
    m->instead = home->trace_failure;
    home->trace_failure = nullptr;
  }
  return m;
}

// Whether a switch to another thread only has to set the thread pointer.
[[gnu::always_inline]] inline bool can_carry_fast(const thread_storage& from,
                                                  const thread_storage& to) noexcept {
  return __builtin_expect(from.float_flags == to.float_flags &&
                              from.signals.mask == to.signals.mask && !from.signals.any() &&
                              !to.signals.any() &&
                              switches_carry.load(std::memory_order_relaxed) == 0,
                          true);
}
// Switches everything: the thread pointer, the floating-point status flags, the signal mask, the
// rights of pkeys(7), the identity, the processor time; and notes whether handlers are due.
void carry_all(thread_storage* from, thread_storage* to, fiber_home* home) noexcept;

// The bare switch, in three parts. A processor predicts where a return goes from the last call,
// which after a jump was another fiber's, and each mispredicted return costs more than the switch.
// So either the jump is the last thing that a function of the seam does (see core::switch_result),
// or all three parts are inlined into a function that returns straight to the headers.
//
// First: `self`, which is running and whose new state is already set, leaves the kernel thread to
// `to`.
[[gnu::always_inline]] inline void enter(fiber* self, fiber* to) noexcept {
  thread_storage* there = to->storage;
  thread_storage* here = self->storage;
  // Set this before the thread pointer: a signal that arrives right then (as it does at the end of
  // a system call) must find the running fiber, even in storage that has not been used yet.
  to->state = fiber_status::running;
  *there->current = to;
  if (there != here) {
    here->float_flags = arch::float_flags();
    if (can_carry_fast(*here, *there)) arch::set_thread_pointer(there->pointer, true);
    else carry_all(here, there, self->home);
  } else if (there->signals.due) [[unlikely]] {
    self->home->handlers_are_due = true;
  }
}
[[gnu::always_inline]] inline void depart(fiber* self, fiber* to) noexcept {
  if (!self->exceptions->none()) [[unlikely]] {
    self->eh = *self->exceptions;
    self->has_eh = true;
    *self->exceptions = {};
  }
  enter(self, to);
}
// The cargo of a fiber whose switch needs post-switch work.
inline void* with_post_switch(fiber* self) noexcept {
  return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(self) | post_switch_bit);
}
inline fiber* who_left(void* cargo) noexcept {
  return reinterpret_cast<fiber*>(reinterpret_cast<std::uintptr_t>(cargo) & ~post_switch_bit);
}
// Third, after the jump: the post-switch work for the fiber that control came from. Afterwards
// reap() is due (at once, unless a message of that fiber must be read first).
[[gnu::always_inline]] inline void arrive(fiber* self, void* context, void* cargo) noexcept {
  fiber* from = who_left(cargo);
  from->sp = context;
  if (self->has_eh) [[unlikely]] {
    *self->exceptions = self->eh;
    self->has_eh = false;
  }
  if (!is_plain(cargo)) post_switch(from, self);
}
[[gnu::always_inline]] inline void switch_to(fiber* self, fiber* to, bool ending = false) noexcept {
  depart(self, to);
  auto arrived = jump(self->ctx, to->ctx, to->sp, with_post_switch(self), ending);
  arrive(self, arrived.context, arrived.from);
}
// The same between fibers neither of which expects a message, where `self` has not ended.
[[gnu::always_inline]] inline void take_turns(fiber* self, fiber* to) noexcept {
  depart(self, to);
  auto arrived = jump(self->ctx, to->ctx, to->sp,
                      self->needs_slow_path ? with_post_switch(self) : self, false);
  arrive(self, arrived.context, arrived.from);
}
// Second, as a function's last act: the jump itself, which returns what the seam returns. (The
// compiler makes a tail call only if nothing comes in between.) Sanitizers must be informed of the
// arrival before the function returns.
#if !defined(TENDRIL_ASAN) && !defined(TENDRIL_TSAN)
switch_result jump_ending(void* to, void* self) noexcept __asm__(TENDRIL_JUMP);
#else
// not inline: after the jump, `current` is another thread's
[[gnu::noinline]] inline switch_result jump_ending(void* to, void* cargo) noexcept {
  fiber* self = who_left(cargo);
  return jump(self->ctx, current->ctx, to, cargo, false);
}
#endif
// Whether `self` may park or yield by the fast path: see core::can_switch_fast.
[[gnu::always_inline]] inline bool can_leave_fast(const fiber* self) noexcept {
  return !self->needs_slow_path && self->runtime_depth == 0 && self->exceptions->none();
}
// What a function returns that has not switched.
[[gnu::noinline, gnu::cold]] inline switch_result no_switch(std::uintptr_t why) noexcept {
  return {reinterpret_cast<void*>(why), reinterpret_cast<void*>(post_switch_bit)};
}

}  // namespace tendril::core
