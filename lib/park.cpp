#include "hub.hpp"

#include <string.h>

namespace tendril::core {

namespace {

struct park_timer : timer {
  fiber* who;
};

void wake_by_timer(timer& t) noexcept { hub::wake(static_cast<park_timer&>(t).who, wake::timeout); }

// Leaves the processor to the next fiber; returns when `self`, whose state says where it waits, runs again.
[[gnu::always_inline]] inline void switch_away(hub& h, fiber* self) noexcept {
  int depth = h.inside;
  fiber* to = h.next();
  if (to == self) {
    self->state = fiber_status::running;
    return;
  }
  switch_to(self, to);
  h.inside = depth;
  if (h.leftover) settle();
}

fiber* after_task(fiber* self) noexcept {
  self->home->inside = 1;  // whoever runs next sets it to its own
  return hub::of(self)->next();
}

}  // namespace

wake park(std::int64_t when, const wait_info& what) noexcept {
  fiber* self = ensure_current();
  hub& h = *hub::of(self);
  if (self->pending && !what.uninterruptible) return wake::interrupted;
  handlers_wait quiet(h);
  park_timer t;
  if (when != INT64_MAX) {
    t.when = {when};
    t.fire = wake_by_timer;
    t.who = self;
    if (!h.timers.start(t)) sys::die("no memory for a timer");
  }
  self->waiting = &what;
  self->woken = wake::unparked;
  self->state = fiber_status::parked;
  h.remote_waits += what.remote;
  switch_away(h, self);
  h.remote_waits -= what.remote;
  self->waiting = nullptr;
  h.timers.cancel(t);
  return self->woken;
}

wake yield() noexcept {
  fiber* self = ensure_current();
  hub& h = *hub::of(self);
  if (self->pending) return wake::interrupted;
  handlers_wait quiet(h);
  self->state = fiber_status::ready;
  self->woken = wake::unparked;
  h.ready.push(self);
  switch_away(h, self);
  return self->pending ? wake::interrupted : wake::unparked;
}

void unpark(fiber* f) noexcept {
  if (current && current->home == f->home) return hub::wake(f, wake::unparked);
  hub* h = hub::of(f);
  h->mail.push(f);
  h->ring();
}

bool start(fiber* task) noexcept {
  hub* h = hub::of(task);
  handlers_wait quiet(*h);
  if (!prepare(task)) return false;
  fiber_ref(task);
  task->successor = after_task;
  task->state = fiber_status::ready;
  h->ready.push(task);
  return true;
}

void* interrupt(fiber* f, void* error) noexcept {
  void* old = f->pending;
  f->pending = error;
  if (f->state == fiber_status::parked && !f->waiting->uninterruptible) hub::wake(f, wake::interrupted);
  return old;
}

void* fiber_take_pending(fiber* f) noexcept {
  void* p = f->pending;
  f->pending = nullptr;
  return p;
}
bool fiber_has_pending(const fiber* f) noexcept { return f->pending; }

std::int64_t now_ns() noexcept { return now(); }

std::size_t wait_report(char* out, std::size_t n, const wait_info* mine) noexcept {
  static const char* const kinds[] = {"sleeps",         "waits for task",       "waits for descriptor", "waits for descriptors",
                                      "waits for a child process", "waits for a helper thread", "waits for a signal",
                                      "waits for a lock", "waits for an event", "waits for a queue",  "waits"};
  std::size_t used = 0;
  auto put = [&](sys::text t) {
    std::size_t take = t.n < n - 1 - used ? t.n : n - 1 - used;
    memcpy(out + used, t.p, take);
    used += take;
  };
  hub& h = hub::here();
  for (fiber* f = h.fibers.front(); f; f = h.fibers.after(*f)) {
    if (f->state == fiber_status::finished) continue;
    put("  fiber ");
    put(sys::number(long(f->id)));
    if (f->name[0]) put(" '"), put(f->name), put("'");
    put(" ");
    const wait_info* waiting = f == current ? mine : f->waiting;
    if (f->state == fiber_status::switched) {
      put("has switched to another fiber");
    } else if (!waiting) {
      put("can run");
    } else {
      put(kinds[int(waiting->kind)]);
      if (waiting->kind == wait_kind::task && waiting->target) {
        put(" ");
        const fiber* on = static_cast<const fiber*>(waiting->target);
        put(sys::number(long(on->id)));
        if (on->name[0]) put(" '"), put(on->name), put("'");
      } else if (waiting->fd >= 0) {
        put(" ");
        put(sys::number(waiting->fd));
      }
    }
    put("\n");
  }
  out[used] = 0;
  return used;
}

}  // namespace tendril::core
