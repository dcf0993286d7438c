#include "fiber.hpp"

#include <stdlib.h>
#include <string.h>

#include <new>

#include "overflow.hpp"

namespace tendril::core {

__thread fiber* current __attribute__((tls_model("initial-exec"))) = nullptr;

namespace {

std::atomic<std::uint64_t> last_id{0};

fiber* living_ancestor(fiber* self) noexcept;

// Whether this code runs on f's kernel thread, in a fiber that may switch: not in the hub.
bool at_home(const fiber_home* home) noexcept {
  return current && current->home == home && current->state == fiber_status::running;
}

void destroy(fiber* f) noexcept {
  // A loop, for a long chain of dead parents must not overflow the stack.
  for (;;) {
    fiber* parent = f->parent;
    fiber_home* home = f->home;
    if (f->what) f->what->destroy(f->payload());
    f->~fiber();
    free(f);
    if (parent) {
      bool plain = at_home(home) && parent != &home->main && parent->state == fiber_status::finished &&
                   parent != home->leftover;
      if (!plain) {
        fiber_unref(parent);
        parent = nullptr;
      } else if (parent->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) {
        parent = nullptr;
      }
    }
    leave_home(home);
    if (!parent) return;
    f = parent;
  }
}

// Throws fiber_exit into a suspended fiber, with the running fiber as its parent meanwhile.
void unwind(fiber* f) noexcept {
  fiber* self = current;
  fiber* parent = f->parent;
  auto* successor = f->successor;
  f->orphan = false;
  f->parent = self;
  f->successor = living_ancestor;
  fiber_ref(self);
  fiber_ref(f);
  message m;
  m.exit = true;
  message* last = fiber_switch(f, &m, nullptr);
  if (last && last->instead) self->home->trace_failure = last->instead;  // not ours to report
  if (last && last->error) sys::say("an exception left fiber '", f->name, "' while it was unwound; ignored");
  settle();
  f->successor = successor;
  if (f->parent == self) {
    f->parent = parent;
    parent = self;
  }
  if (parent) fiber_unref(parent);
  // One that caught fiber_exit and switched away stays suspended: it lives on, and perhaps nobody can reach it.
  if (f->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (f->state == fiber_status::finished) destroy(f);
  else f->orphan = f->state != fiber_status::switched;
}

// The last reference is gone, at home.
void release(fiber* f) noexcept {
  switch (f->state) {
    case fiber_status::fresh:
      return destroy(f);
    case fiber_status::finished:
      if (f != f->home->leftover) destroy(f);
      return;
    case fiber_status::switched:
      return unwind(f);
    default:
      f->orphan = true;
  }
}

void unref_all(fiber* doomed) noexcept {
  while (doomed) {
    fiber* next = doomed->next_doomed;
    fiber_unref(doomed);
    doomed = next;
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
  if (from->in_trace || self->in_trace) return;
  fiber_home* home = self->home;
  void* context = home->trace_context;
  message* letter = self->letter;
  fiber* leftover = home->leftover;
  bool thrown = letter && (letter->error || letter->exit);
  // The callback may drop handles, even switch: what has arrived is set aside meanwhile.
  self->letter = nullptr;
  home->leftover = nullptr;
  fiber_ref(from);  // it may be held by nobody else, and the callback makes handles of it
  self->in_trace = true;
  void* failure = home->trace(context, from, self, thrown);
  self->in_trace = false;
  self->letter = letter;
  home->leftover = leftover;
  if (from->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    from->orphan = true;
    left_behind(from);
  }
  if (!failure) return;
  if (home->trace && home->trace_context == context) set_tracer(nullptr, nullptr, nullptr);
  // Of two failures before anybody can be told, the first is reported.
  if (!home->trace_failure) home->trace_failure = failure;
}

// What the running fiber was sent; an exception of the trace callback comes along.
message* take_letter(fiber* self) noexcept {
  message* m = self->letter;
  self->letter = nullptr;
  if (self->home->trace_failure && m) [[unlikely]] {
    m->instead = self->home->trace_failure;
    self->home->trace_failure = nullptr;
  }
  return m;
}

[[noreturn]] void entry(boost::context::detail::transfer_t t) {
  fiber* from = static_cast<fiber*>(t.data);
  from->ctx.sp = t.fctx;
  arrived_first(from->ctx);
  fiber* self = current;
  self->home->inside = 0;
  look_back(from, self);
  message* last = self->what->run(self, take_letter(self));
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
  fiber_ref(f);
  unwind(f);
  bool ended = f->state == fiber_status::finished;
  f->orphan = !ended;
  if (f->refs.fetch_sub(1, std::memory_order_acq_rel) == 1 && ended) destroy(f);
}

void adopt_doomed(fiber_home* home) noexcept { unref_all(home->doomed.exchange(nullptr, std::memory_order_acquire)); }

void close_home(fiber_home* home) noexcept {
  unref_all(home->doomed.exchange(&home->main, std::memory_order_acq_rel));
}

fiber_home::fiber_home() noexcept : tid(sys::gettid()), pid(sys::getpid()) {
  main.home = this;
  main.state = fiber_status::running;
  main.id = ++last_id;
  strcpy(main.name, "main");
  fibers.push_back(main);
}

bool prepare(fiber* f) noexcept {
  fiber_home* home = f->home;
  if (!home->make_room(home)) return false;
  if (!home->watches_overflow) watch_overflow(*home);
  f->stk = home->stacks.take(f->stack_size);
  if (!f->stk.size) return false;
  make_context(f->ctx, f->stk.bottom(), f->stk.top, entry);
  home->fibers.push_back(*f);
  home->unfinished++;
  return true;
}

void look_back(fiber* from, fiber* self) noexcept {
  left_behind(from);
  if (self->home->trace) tell_tracer(from, self);
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
  if (f->home->doomed.load(std::memory_order_relaxed) && at_home(f->home)) adopt_doomed(f->home);
  return f;
}

void* fiber_payload(fiber* f) noexcept { return f->payload(); }
void fiber_ref(fiber* f) noexcept { f->refs.fetch_add(1, std::memory_order_relaxed); }

void fiber_unref(fiber* f) noexcept {
  fiber_home* home = f->home;
  if (at_home(home)) [[likely]] {
    if (f->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) release(f);
    return;
  }
  // Elsewhere nobody may look at the fiber's state, so the last reference itself goes home.
  std::uint32_t refs = f->refs.load(std::memory_order_acquire);
  while (refs > 1) {
    if (f->refs.compare_exchange_weak(refs, refs - 1, std::memory_order_acq_rel)) return;
  }
  fiber* head = home->doomed.load(std::memory_order_acquire);
  while (head != &home->main) {
    f->next_doomed = head;
    if (home->doomed.compare_exchange_weak(head, f, std::memory_order_acq_rel)) return;
  }
  // That kernel thread has ended. A fiber that would not be unwound then is left as it is.
  if (f->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (f == &home->main) leave_home(home);
  else if (f->state == fiber_status::fresh || f->state == fiber_status::finished) destroy(f);
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
  fiber* main = &f->home->main;
  while (f != main && f->state == fiber_status::finished) f = f->parent ? f->parent : main;
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
  int depth = self->home->inside;
  switch_to(self, to);
  self->home->inside = depth;
  return take_letter(self);
}

void settle() noexcept {
  fiber_home* home = current->home;
  fiber* f = home->leftover;
  if (!f) return;
  home->leftover = nullptr;
  if (f->state != fiber_status::finished) {
    // Somebody may have made a handle of it, or run it, since it was left behind.
    if (f->state == fiber_status::switched && f->refs.load(std::memory_order_acquire) == 0) unwind(f);
    return;
  }
  f->unlink();
  destroy_context(f->ctx);
  home->stacks.give_back(f->stk);
  f->stk = {};
  // A task holds a reference to itself from start() to here; any other lives on its handles.
  if (f->kind == fiber_kind::task) fiber_unref(f);
  else if (f->refs.load(std::memory_order_acquire) == 0) destroy(f);
}

void set_tracer(tracer t, void* context, void (*drop)(void*) noexcept) noexcept {
  fiber_home* home = ensure_current()->home;
  void* old = home->trace ? home->trace_context : nullptr;
  auto* drop_old = home->drop_trace_context;
  home->trace = t;
  home->trace_context = context;
  home->drop_trace_context = drop;
  if (old) drop_old(old);
}
void* tracer_context() noexcept {
  fiber_home* home = ensure_current()->home;
  return home->trace ? home->trace_context : nullptr;
}

void fail(const char* what) noexcept { sys::die(what); }

}  // namespace tendril::core
