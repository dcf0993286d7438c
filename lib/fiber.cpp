#include "fiber.hpp"

#include <stdlib.h>
#include <string.h>

#include <new>

namespace tendril::core {

__thread fiber* current __attribute__((tls_model("initial-exec"))) = nullptr;

namespace {

std::atomic<std::uint64_t> last_id{0};

void destroy(fiber* f) noexcept {
  if (f->what) f->what->destroy(f->payload());
  if (f->parent) fiber_unref(f->parent);
  fiber_home* home = f->home;
  f->~fiber();
  free(f);
  leave_home(home);
}

// Throws fiber_exit into a suspended fiber that nobody holds, with the running fiber as its parent.
void unwind(fiber* f) noexcept {
  fiber* self = current;
  message* unread = self->letter;
  f->orphan = false;
  fiber_ref(f);
  fiber_set_parent(f, self);
  message m;
  m.exit = true;
  message* last = fiber_switch(f, &m, nullptr);
  if (last && last->error) sys::say("an exception left fiber '", f->name, "' while it was unwound; ignored");
  settle();
  self->letter = unread;
  // If it caught fiber_exit and switched away it stays suspended: it lives on and nobody can reach it.
  if (f->refs.fetch_sub(1, std::memory_order_acq_rel) == 1 && f->state == fiber_status::finished) destroy(f);
}

void release(fiber* f) noexcept {
  switch (f->state) {
    case fiber_status::fresh:
    case fiber_status::finished:
      return destroy(f);
    case fiber_status::switched:
      return unwind(f);
    default:
      f->orphan = true;
  }
}

void adopt(fiber_home* home) noexcept {
  fiber* f = home->doomed.exchange(nullptr, std::memory_order_acquire);
  while (f) {
    fiber* next = f->next_doomed;
    release(f);
    f = next;
  }
}

fiber* living_ancestor(fiber* self) noexcept {
  fiber* to = fiber_living(self->parent);
  if (to->state != fiber_status::switched && to->state != fiber_status::fresh) {
    sys::die("fiber '", self->name, "' has finished, but its parent '", to->name,
             "' is parked in the hub and cannot take its result");
  }
  if (to->state == fiber_status::fresh && !prepare(to)) sys::die("no memory for the stack of a fiber");
  return to;
}

void left_behind(fiber* from) noexcept {
  if (from->state == fiber_status::finished || (from->orphan && from->state == fiber_status::switched)) {
    from->home->leftover = from;
  }
}

void tell_tracer(fiber* from, fiber* self) noexcept {
  fiber_home* home = self->home;
  bool thrown = self->letter && (self->letter->error || self->letter->exit);
  tracer t = home->trace;
  void* context = home->trace_context;
  fiber_ref(from);  // it may be held by nobody else, and the tracer makes handles of it
  if (!t(context, from, self, thrown) && home->trace_context == context) home->trace = nullptr;
  from->refs.fetch_sub(1, std::memory_order_relaxed);
}

[[noreturn]] void entry(boost::context::detail::transfer_t t) {
  fiber* from = static_cast<fiber*>(t.data);
  from->ctx.sp = t.fctx;
  arrived_first(from->ctx);
  fiber* self = current;
  left_behind(from);
  if (self->home->trace) tell_tracer(from, self);
  message* last = self->what->run(self, self->letter);
  self->home->unfinished--;
  fiber* to = self->successor(self);
  self->state = fiber_status::finished;
  to->letter = last;
  switch_to(self, to, true);
  __builtin_unreachable();
}

}  // namespace

void leave_home(fiber_home* home) noexcept {
  if (home->users.fetch_sub(1, std::memory_order_acq_rel) == 1) home->destroy(home);
}

void unwind_held(fiber* f) noexcept {
  unwind(f);
  if (f->state != fiber_status::finished) f->orphan = true;
}

fiber_home::fiber_home() noexcept : tid(sys::gettid()) {
  main.home = this;
  main.state = fiber_status::running;
  main.id = ++last_id;
  strcpy(main.name, "main");
  fibers.push_back(main);
}

bool prepare(fiber* f) noexcept {
  fiber_home* home = f->home;
  f->stk = home->stacks.take(f->stack_size);
  if (!f->stk.size) return false;
  make_context(f->ctx, f->stk.bottom(), f->stk.top, entry);
  home->fibers.push_back(*f);
  home->unfinished++;
  return true;
}

void switch_to(fiber* self, fiber* to, bool ending) noexcept {
  fiber_home* home = self->home;
  if (eh_state* eh = home->eh_globals) {
    self->eh = *eh;
    *eh = to->eh;
  }
  to->state = fiber_status::running;
  current = to;
  auto arrived = jump(self->ctx, to->ctx, self, ending);
  fiber* from = static_cast<fiber*>(arrived.data);
  from->ctx.sp = arrived.fctx;
  if (from->state == fiber_status::finished || from->orphan) [[unlikely]] left_behind(from);
  if (home->trace) [[unlikely]] tell_tracer(from, self);
}

// --- the seam to the public headers ---

fiber* fiber_new(std::size_t payload_size, const body& b, const fiber_options& o) noexcept {
  fiber* creator = ensure_current();
  void* memory = malloc(fiber::payload_offset() + payload_size);
  if (!memory) return nullptr;
  fiber* f = new (memory) fiber;
  f->home = creator->home;
  f->home->users.fetch_add(1, std::memory_order_relaxed);
  if (o.eh_globals) f->home->eh_globals = static_cast<eh_state*>(o.eh_globals);
  f->kind = o.kind;
  f->what = &b;
  f->awaits = o.family;
  f->stack_size = o.stack_size;
  f->id = last_id.fetch_add(1, std::memory_order_relaxed) + 1;
  if (o.name) fiber_set_name(f, o.name);
  if (o.kind == fiber_kind::explicit_switch) {
    f->successor = living_ancestor;
    f->parent = creator;
    fiber_ref(creator);
  }
  if (f->home->doomed.load(std::memory_order_relaxed)) adopt(f->home);
  return f;
}

void* fiber_payload(fiber* f) noexcept { return f->payload(); }
void fiber_ref(fiber* f) noexcept { f->refs.fetch_add(1, std::memory_order_relaxed); }

void fiber_unref(fiber* f) noexcept {
  if (f->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  fiber_home* home = f->home;
  if (f == &home->main) return;
  if (current && current->home == home) return release(f);
  if (f->state == fiber_status::fresh || f->state == fiber_status::finished) return destroy(f);
  fiber* head = home->doomed.load(std::memory_order_relaxed);
  do f->next_doomed = head;
  while (!home->doomed.compare_exchange_weak(head, f, std::memory_order_release));
}

fiber* fiber_current() noexcept { return ensure_current(); }
bool fiber_on_this_thread(const fiber* f) noexcept { return f->home == ensure_current()->home; }
fiber_status fiber_state(const fiber* f) noexcept { return f->state; }
const void* fiber_awaits(const fiber* f) noexcept { return f->awaits; }
bool fiber_is_main(const fiber* f) noexcept { return f == &f->home->main; }
fiber* fiber_parent(const fiber* f) noexcept { return f->parent; }

void fiber_set_parent(fiber* f, fiber* parent) noexcept {
  fiber_ref(parent);
  fiber* old = f->parent;
  f->parent = parent;
  if (old) fiber_unref(old);
}

fiber* fiber_living(fiber* f) noexcept {
  while (f->state == fiber_status::finished) f = f->parent ? f->parent : &f->home->main;
  return f;
}

const char* fiber_name(const fiber* f) noexcept { return f->name; }
void fiber_set_name(fiber* f, const char* name) noexcept {
  std::size_t n = strnlen(name, sizeof f->name - 1);
  memcpy(f->name, name, n);
  f->name[n] = 0;
}
std::uint64_t fiber_id(const fiber* f) noexcept { return f->id; }

message* fiber_switch(fiber* to, message* m, const void* awaits) noexcept {
  fiber* self = current;
  if (to == self) return m;
  if (to->state == fiber_status::fresh && !prepare(to)) return nullptr;
  self->state = fiber_status::switched;
  self->awaits = awaits;
  to->letter = m;
  switch_to(self, to);
  return self->letter;
}

void settle() noexcept {
  fiber_home* home = current->home;
  fiber* f = home->leftover;
  if (!f) return;
  home->leftover = nullptr;
  if (f->state != fiber_status::finished) return unwind(f);
  f->unlink();
  destroy_context(f->ctx);
  home->stacks.give_back(f->stk);
  f->stk = {};
  // A task holds a reference to itself from start() to here; any other lives on its handles.
  if (f->kind == fiber_kind::task) fiber_unref(f);
  else if (f->refs.load(std::memory_order_acquire) == 0) destroy(f);
}

void set_tracer(tracer t, void* context) noexcept {
  fiber_home* home = ensure_current()->home;
  home->trace = t;
  home->trace_context = context;
}
void* tracer_context() noexcept {
  fiber_home* home = ensure_current()->home;
  return home->trace ? home->trace_context : nullptr;
}

void fail(const char* what) noexcept { sys::die(what); }

}  // namespace tendril::core
