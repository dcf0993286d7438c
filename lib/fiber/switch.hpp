// The switch from one fiber to another, and what travels with it.
#pragma once

#include "fiber/fiber.hpp"

namespace tendril::core {

// What a switch finds out afterwards, and rarely: the fiber that it came from has ended or is held
// by nobody, or somebody traces.
void post_switch(fiber* from, fiber* self) noexcept;

// What the running fiber was sent; an exception of the trace callback comes along.
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

// Whether a switch to another thread has but the thread pointer to set.
[[gnu::always_inline]] inline bool can_carry_fast(const thread_storage& from,
                                                  const thread_storage& to) noexcept {
  return __builtin_expect(from.float_flags == to.float_flags &&
                              from.signals.mask == to.signals.mask && !from.signals.any() &&
                              !to.signals.any() &&
                              switches_carry.load(std::memory_order_relaxed) == 0,
                          true);
}
// Where it has more: the thread pointer, the floating-point status flags, the signal mask, the
// alternate stack, the rights of pkeys(7), the time of the processor; and handlers may be due.
void carry_all(thread_storage* from, thread_storage* to, fiber_home* home) noexcept;

// The bare switch, in three parts. The processor predicts a return by who called last, which after
// a jump was another fiber: each return costs more than the switch. So the jump is the last thing
// that a function of the seam does (see core::switch_result), or else all is inlined into one that
// returns straight to the headers.
//
// First: `self`, which is running and was given its new state, leaves the kernel thread to `to`.
[[gnu::always_inline]] inline void enter(fiber* self, fiber* to) noexcept {
  thread_storage* there = to->storage;
  thread_storage* here = self->storage;
  // Before the thread pointer is set: a signal that comes right then, which it does at the end of a
  // system call, finds who runs also in storage that has never been run with.
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
  self->runtime_depth = self->home->runtime_depth;
  enter(self, to);
}
// Who left by that wants it looked after.
inline void* with_post_switch(fiber* self) noexcept {
  return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(self) | post_switch_bit);
}
inline fiber* who_left(void* cargo) noexcept {
  return reinterpret_cast<fiber*>(reinterpret_cast<std::uintptr_t>(cargo) & ~post_switch_bit);
}
// Third, after the jump: what became of the fiber that control came from. Afterwards reap() is
// due (at once, unless there is a message of that fiber to read first).
[[gnu::always_inline]] inline void arrive(fiber* self, void* context, void* cargo) noexcept {
  fiber* from = who_left(cargo);
  from->sp = context;
  if (self->has_eh) [[unlikely]] {
    *self->exceptions = self->eh;
    self->has_eh = false;
  }
  if (!is_plain(cargo)) post_switch(from, self);
  self->home->runtime_depth = self->runtime_depth;
  self->runtime_depth = 0;
}
[[gnu::always_inline]] inline void switch_to(fiber* self, fiber* to, bool ending = false) noexcept {
  depart(self, to);
  auto arrived = jump(self->ctx, to->ctx, to->sp, with_post_switch(self), ending);
  arrive(self, arrived.context, arrived.from);
}
// The same between fibers of which neither expects a message, where `self` goes on living.
[[gnu::always_inline]] inline void take_turns(fiber* self, fiber* to) noexcept {
  depart(self, to);
  auto arrived = jump(self->ctx, to->ctx, to->sp,
                      self->needs_slow_path ? with_post_switch(self) : self, false);
  arrive(self, arrived.context, arrived.from);
}
// Second, where it is a function's last act: the jump itself, returning what the seam returns. (The
// compiler makes a tail call only if nothing stands between.) Sanitizers want to hear of it before
// the function returns.
#if !defined(TENDRIL_ASAN) && !defined(TENDRIL_TSAN)
switch_result jump_ending(void* to, void* self) noexcept __asm__(TENDRIL_JUMP);
#else
// not inline: `current` is another thread's now
[[gnu::noinline]] inline switch_result jump_ending(void* to, void* cargo) noexcept {
  fiber* self = who_left(cargo);
  return jump(self->ctx, current->ctx, to, cargo, false);
}
#endif
// Whether `self` may wait and leave by a plain arrival's way: see core::can_switch_fast.
[[gnu::always_inline]] inline bool can_leave_fast(const fiber* self,
                                                  const fiber_home* home) noexcept {
  return !self->needs_slow_path && home->runtime_depth == 0 && self->exceptions->none();
}
// What a function that would have switched says instead.
[[gnu::noinline, gnu::cold]] inline switch_result no_switch(std::uintptr_t why) noexcept {
  return {reinterpret_cast<void*>(why), reinterpret_cast<void*>(post_switch_bit)};
}

}  // namespace tendril::core
