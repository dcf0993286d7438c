// The fast paths of yielding and parking: for a fiber that does not need the slow path, without a
// deadline. Inline, for calls that do little else.
#pragma once

#include "fiber/switch.hpp"
#include "scheduler/hub.hpp"

namespace tendril::core {

// The fiber that was about to leave is itself the next to run.
inline void stay(hub& h, fiber* self) noexcept {
  self->state = fiber_status::running;
  if (self->storage->signals.due) [[unlikely]]
    h.look_for_handlers();
}

// The same, outside the runtime.
void stay_outside(hub& h, fiber* self) noexcept;

// Both halves of give_way() in one. Returns false if it did nothing: no other fiber can run, or the
// slow path is needed.
[[gnu::always_inline]] inline bool give_way_fast(hub& h, fiber* self) noexcept {
  if (!can_leave_fast(self) || h.ready.empty()) [[unlikely]]
    return false;
  self->runtime_depth = 1;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  self->state = fiber_status::ready;
  h.ready.push(self);
  fiber* to;
  if (h.begin_turn()) [[unlikely]] {
    h.refill_run_queue();
    to = h.ready.pop();
    if (to == self) return stay_outside(h, self), true;  // the others were given away
  } else {
    to = h.ready.pop();
  }
  enter(self, to);
  auto arrived = jump(to->sp, self);
  if (!is_plain(arrived.from)) [[unlikely]] {
    gave_way_slow(arrived.context, arrived.from);
    return true;
  }
  static_cast<fiber*>(arrived.from)->sp = arrived.context;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  self->runtime_depth = 0;
  if (self->home->handlers_due()) [[unlikely]]
    run_handlers_due();
  return true;
}

// Whether the fiber may use park_fast().
inline bool can_park_fast(const fiber* self) noexcept {
  return !self->needs_slow_path && self->exceptions->none();
}
// Like park_until_unparked(), but in one piece, and for a fiber that is inside the runtime.
[[gnu::always_inline]] inline wake park_fast(hub& h, fiber* self, const wait_info& what) noexcept {
  self->waiting = &what;
  self->state = fiber_status::parked;
  h.waits.add(what);
  fiber* to = h.next();
  if (to != self) [[likely]] {
    enter(self, to);
    auto arrived = jump(to->sp, self);
    fiber* from = who_left(arrived.from);
    from->sp = arrived.context;
    if (!is_plain(arrived.from)) [[unlikely]] {
      post_switch(from, self);
      if (self->home->to_reap) reap();
    }
  } else {
    stay(h, self);
  }
  return self->woken;
}

// A signal is due for another thread, whose fiber is f: interrupts the running fiber, lets f run
// its handler at once, and comes back here.
void yield_to_handler(hub& h, fiber* f) noexcept;

// Ends the fiber's wait with wake::interrupted, if it is in one that can be interrupted. Any
// thread.
void end_wait(fiber* f) noexcept;

// Remembers that a kill or a time-out has made a call of the running fiber fail: code that does not
// learn of it by an exception (a C function) may return as if nothing had happened.
void note_ended_wait(fiber* f) noexcept;

}  // namespace tendril::core
