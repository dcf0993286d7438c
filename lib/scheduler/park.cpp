#include "scheduler/park.hpp"

#include "scheduler/home.hpp"

namespace tendril::core {

namespace {

bool may_interrupt(const fiber* f, const wait_info& what) noexcept {
  return f->extra.forbidden || (!what.uninterruptible && !f->extra.shields);
}

// Whether a kill or a time-out is to end the fiber's wait now.
[[gnu::always_inline]] inline bool is_due(const fiber* f) noexcept {
  if (!f->pending && f->extra.limit == INT64_MAX) [[likely]]
    return false;
  return !f->extra.shields && (f->pending || f->extra.limit <= now());
}

// Hands the kernel thread to the next fiber; returns when `self`, whose state is already set, runs
// again.
[[gnu::always_inline]] inline void switch_away(hub& h, fiber* self) noexcept {
  fiber* to = h.next();
  if (to == self) return stay(h, self);
  take_turns(self, to);
  if (self->home->to_reap) reap();
}

// The second half of switch_away(), if the first half left by the fast path.
[[gnu::always_inline]] inline void come_back(void* context, void* from, fiber* self) noexcept {
  arrive(self, context, from);
  forget_deadline(self);
  if (self->home->to_reap) reap();
  std::atomic_signal_fence(std::memory_order_seq_cst);
  self->runtime_depth = 0;
  if (self->home->handlers_due()) [[unlikely]]
    run_handlers_due();
}

// The first half of switch_away(). Rare cases are tail calls to other functions, so that the usual
// case needs no stack frame.
[[gnu::noinline]] switch_result enter_ending(fiber* self, fiber* to) noexcept {
  enter(self, to);
  return jump_ending(to->sp, self);
}
[[gnu::noinline]] switch_result refill_and_leave(hub& h, fiber* self) noexcept {
  h.refill_run_queue();
  fiber* to = h.ready.pop();
  if (to != self) return enter_ending(self, to);
  stay(h, self);
  return {nullptr, self};
}
[[gnu::always_inline]] inline switch_result leave(hub& h, fiber* self) noexcept {
  if (h.needs_refill()) [[unlikely]]
    return refill_and_leave(h, self);
  fiber* to = h.ready.pop();
  if (to->storage != self->storage || to->storage->signals.due) [[unlikely]]
    return enter_ending(self, to);
  to->state = fiber_status::running;
  current = to;
  return jump_ending(to->sp, self);
}

[[gnu::noinline]] wake park_slow(hub& h, fiber* self, std::int64_t when, const wait_info& what,
                                 bool precise) noexcept {
  if ((self->pending || self->extra.forbidden) && may_interrupt(self, what))
    return wake::interrupted;
  bool limited = self->extra.limit < when && may_interrupt(self, what);
  if (limited) when = self->extra.limit;
  handlers_deferred quiet;
  if (when != INT64_MAX) h.wake_at(self, when, precise);
  self->waiting = &what;
  self->state = fiber_status::parked;
  h.waits.add(what);
  switch_away(h, self);
  forget_deadline(self);
  return limited && self->woken == wake::timeout ? wake::interrupted : self->woken;
}

}  // namespace

wake park(std::int64_t when, const wait_info& what, bool precise) noexcept {
  fiber* self = ensure_current();
  hub& h = *hub::of(self);
  if (when == INT64_MAX && can_park_fast(self)) [[likely]] {
    handlers_deferred quiet(self);
    return park_fast(h, self, what);
  }
  return park_slow(h, self, when, what, precise);
}

[[gnu::noinline]] static switch_result park_whole(std::int64_t when, const wait_info& what,
                                                  bool precise) noexcept {
  return no_switch(std::uintptr_t(park(when, what, precise)));
}

switch_result park_until_unparked(const wait_info& what, fiber* self) noexcept {
  hub& h = *hub::of(self);
  if (!can_leave_fast(self)) [[unlikely]]
    return park_whole(INT64_MAX, what, false);
  self->runtime_depth = 1;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  self->waiting = &what;
  self->state = fiber_status::parked;
  h.waits.add(what);
  return leave(h, self);
}

switch_result park_until(std::int64_t when, const wait_info& what, bool precise,
                         fiber* self) noexcept {
  hub& h = *hub::of(self);
  if (!can_leave_fast(self)) [[unlikely]]
    return park_whole(when, what, precise);
  self->runtime_depth = 1;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  h.wake_at(self, when, precise);
  self->waiting = &what;
  self->state = fiber_status::parked;
  h.waits.add(what);
  return leave(h, self);
}

// The running fiber's wait is over; the fiber is still inside the runtime.
void forget_deadline(fiber* self) noexcept {
  if (self->timer) hub::of(self)->timers.cancel(self);
}

wake parked_slow(void* context, void* from) noexcept {
  if (!is_switch(from)) return wake(reinterpret_cast<std::uintptr_t>(context));
  fiber* self = current;
  come_back(context, from, self);
  return self->woken;
}

[[gnu::noinline]] static switch_result yield_whole() noexcept {
  return no_switch(std::uintptr_t(yield()));
}

switch_result give_way(fiber* self) noexcept {
  hub& h = *hub::of(self);
  if (!can_leave_fast(self) || h.ready.empty()) [[unlikely]]
    return yield_whole();
  self->runtime_depth = 1;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  self->state = fiber_status::ready;
  h.ready.push(self);
  return leave(h, self);
}

wake wake_of_slow_path() noexcept { return is_due(current) ? wake::interrupted : wake::unparked; }

wake gave_way_slow(void* context, void* from) noexcept {
  if (!is_switch(from)) return wake(reinterpret_cast<std::uintptr_t>(context));
  fiber* self = current;
  come_back(context, from, self);
  return is_due(self) ? wake::interrupted : wake::unparked;
}

[[gnu::noinline]] static wake yield_slow(hub& h, fiber* self) noexcept {
  if (is_due(self) || self->extra.forbidden) return wake::interrupted;
  handlers_deferred quiet;
  self->state = fiber_status::ready;
  h.ready.push(self);
  switch_away(h, self);
  return is_due(self) ? wake::interrupted : wake::unparked;
}

void stay_outside(hub& h, fiber* self) noexcept {
  stay(h, self);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  self->runtime_depth = 0;
  if (h.handlers_due()) [[unlikely]]
    run_handlers_due();
}

wake yield() noexcept {
  fiber* self = ensure_current();
  hub& h = *hub::of(self);
  if (!give_way_fast(h, self)) [[unlikely]]
    return yield_slow(h, self);
  return self->needs_slow_path ? wake_of_slow_path() : wake::unparked;
}

// Hands the kernel thread to `f`, and is first in the run queue behind it.
static void stand_behind(hub& h, fiber* f) noexcept {
  fiber* self = current;
  self->state = fiber_status::ready;
  h.ready.push(self);
  h.ready.promote(self);
  h.ready.promote(f);
  switch_away(h, self);
}

void yield_to_handler(hub& h, fiber* f) noexcept {
  fiber* self = current;
  // f will run in its turn, or on its own hub
  if (f->home != &h || h.yielded_to_handler || f->state != fiber_status::ready || self->pending)
    return;
  handlers_deferred quiet;
  unsigned turns = h.turns.so_far();
  h.yielded_to_handler = self;
  h.ready.promote(f);
  // Right behind f, before all others: they must not find the state in which we were interrupted.
  stand_behind(h, f);
  // If we are back directly from the handler, the fiber has kept the kernel thread to itself: hide
  // the turns in between from the watcher.
  if (h.yielded_to_handler != self) h.turns.forget_since(turns);
  else h.yielded_to_handler = nullptr;
}

// The handler has run: the fiber that yielded to it goes on.
static void return_from_handler(hub& h) noexcept {
  fiber* f = h.yielded_to_handler;
  h.yielded_to_handler = nullptr;
  if (f == current || f->state != fiber_status::ready) return;
  handlers_deferred quiet;
  h.ready.promote(f);
  yield();
}

void run_handlers_due() noexcept {
  hub::of(current)->signals.run_handlers_due();
  hub& h = *hub::of(current);
  if (h.yielded_to_handler) return_from_handler(h);
}

[[gnu::noinline]] static void unpark_remote(fiber* f) noexcept {
  if (!remote_queue::claim(f)) return;
  hub* h = hub::of(f);
  h->remote.push(f);
  h->notify();
}

void unpark(fiber* f) noexcept {
  if (!current || current->home != home_now(f)) [[unlikely]]
    return unpark_remote(f);
  if (f->state == fiber_status::parked) hub::make_ready(f, wake::unparked, false);
}

void end_wait(fiber* f) noexcept {
  if (!current || current->home != home_now(f)) {
    f->ends_wait.store(true, std::memory_order_release);  // the reason is seen, too
    return unpark_remote(f);
  }
  if (hub::may_end_wait(f)) hub::wake(f, wake::interrupted);
}

void* interrupt(fiber* f, void* error) noexcept {
  void* old = f->pending;
  f->pending = error;
  update_needs_slow_path(*f);
  if (!old) f->extra.pending_ended_wait = false;
  if (f->state == fiber_status::parked && may_interrupt(f, *f->waiting))
    hub::wake(f, wake::interrupted);
  return old;
}

void note_ended_wait(fiber* f) noexcept {
  if (f->pending) f->extra.pending_ended_wait = true;
  else if (nanoseconds t = now(); f->extra.limit <= t) f->extra.limit_ended_wait = t;
}

std::int64_t now_ns() noexcept { return now(); }

}  // namespace tendril::core
