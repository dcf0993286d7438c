#include "fiber/lifetime.hpp"

#include <stdlib.h>

#include <new>

#include "fiber/switch.hpp"

namespace tendril::core {

namespace {

fiber* living_ancestor(fiber* self) noexcept;

// Does not return the stack to the pool yet: the next task will write it again while it is in the
// cache.
void make_idle(fiber* f) noexcept {
  f->next_remote_release = f->home->idle;
  f->home->idle = f;
}

// Does not free the memory: this code is inside the runtime, which must not wait for a lock of the
// C library. The lock's holder may be a preempted thread.
void leave_memory(fiber_home* home, void* memory, std::size_t payload_size) noexcept {
  auto* left = new (memory) left_memory{home->left.load(std::memory_order_relaxed), payload_size};
  while (!home->left.compare_exchange_weak(left->next, left, std::memory_order_relaxed)) {}
}

left_memory* take_left_memory(fiber_home* home) noexcept {
  left_memory* left = home->left.load(std::memory_order_relaxed);
  while (left && !home->left.compare_exchange_weak(left, left->next, std::memory_order_relaxed)) {}
  return left;
}

void destroy(fiber* f) noexcept {
  // A loop, since recursion over a long chain of dead parents could overflow the stack.
  for (;;) {
    fiber* parent = f->parent;
    fiber_home* home = f->home;
    if (f->extra.locals) f->extra.drop_locals(f->extra.locals);
    bool placed = f->placed;
    if (f->what) f->what->destroy(fiber_payload(f));
    if (placed) {
      // destroy() has informed the owner of the memory, which may have reused it: do not touch it.
    } else if (!f->on_stack) {
      std::size_t payload_size = f->payload_size;
      f->~fiber();
      if (home->closed || sanitized) free(f);
      else leave_memory(home, f, payload_size);
    } else if (!f->pooled || sanitized) {
      if (!home->closed) home->stacks.give_back(stack(f->stk));
    } else if (!home->closed) {
      make_idle(f);
    }  // else the stack goes with the home
    if (parent) {
      bool plain = at_home(home) && parent != &home->main &&
                   parent->state == fiber_status::finished && parent != home->to_reap;
      if (!plain) {
        fiber_unref(parent);
        parent = nullptr;
      } else if (parent->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) {
        parent = nullptr;
      }
    }
    if (home->closed) leave_home(home);
    else home->living--;
    if (!parent) return;
    f = parent;
  }
}

// Gives a message to a suspended fiber, and waits for the message that comes back.
message* switch_and_wait(fiber* to, message* m) noexcept {
  fiber* self = current;
  self->state = fiber_status::switched;
  self->awaits = nullptr;
  to->inbound_message = m;
  self->enter_runtime();
  switch_to(self, to);
  self->leave_runtime_quietly();
  return take_inbound_message(self);
}

// Throws fiber_exit into a suspended fiber; meanwhile the running fiber is its parent.
void unwind(fiber* f) noexcept {
  fiber* self = current;
  fiber* parent = f->parent;
  auto* successor = f->successor;
  set_orphan(f, false);
  f->parent = self;
  f->successor = living_ancestor;
  fiber_ref(self);
  fiber_ref(f);
  message m;
  m.exit = true;
  message* last = switch_and_wait(f, &m);
  // reported by the next explicit switch
  if (last && last->instead) self->home->trace_failure = last->instead;
  if (last && last->error)
    sys::say("an exception left fiber '", f->name, "' while it was unwound; ignored");
  reap();
  f->successor = successor;
  if (f->parent == self) {
    f->parent = parent;
    parent = self;
  }
  if (parent) fiber_unref(parent);
  // A fiber that caught fiber_exit and switched away stays suspended, although it may be
  // unreachable.
  if (f->refs.fetch_sub(1, std::memory_order_acq_rel) != 1 || f->started) return;
  if (f->state == fiber_status::finished) destroy(f);
  else set_orphan(f, f->state != fiber_status::switched);
}

// The last reference has been dropped on the home's kernel thread.
void release(fiber* f) noexcept {
  if (f->started) return;  // reap() will
  switch (f->state) {
    case fiber_status::fresh:
      return destroy(f);
    case fiber_status::finished:
      if (f != f->home->to_reap) destroy(f);
      return;
    case fiber_status::switched:
      return unwind(f);
    default:
      set_orphan(f, true);
  }
}

void unref_all(fiber* remote_releases) noexcept {
  while (remote_releases) {
    fiber* next = remote_releases->next_remote_release;
    fiber_unref(remote_releases);
    remote_releases = next;
  }
}

fiber* living_ancestor(fiber* self) noexcept {
  fiber* to = fiber_living(self->parent);
  if (to->state != fiber_status::switched && to->state != fiber_status::fresh) {
    sys::die("fiber '", self->name, "' has finished, but its parent '", to->name,
             "' is parked in the hub and cannot take its result");
  }
  if (to->state == fiber_status::fresh && !prepare(to))
    sys::die("no memory for the stack of a fiber");
  return to;
}

// Whether an ending fiber leaves no post-switch work to the next one: then it does the rest itself.
bool can_end_fast(const fiber* self) noexcept {
  return self->on_stack && !self->needs_slow_path && !self->parent &&
         self->refs.load(std::memory_order_acquire) != 0;
}

}  // namespace

// Where a context begins. The context of a task that has ended by the fast path waits here to
// become the next task's.
[[noreturn]] static void entry(switch_result came) {
  fiber* self = current;
  for (;;) {
    fiber* from = who_left(came.from);
    from->sp = came.context;
    arrived_first(from->ctx);
    self->runtime_depth = 0;
    if (self->home->handlers_are_due) [[unlikely]]
      self->home->calls->run_handlers_due();
    if (!is_plain(came.from)) [[unlikely]]
      post_switch(from, self);
    message* last = self->what->run(self, self->on_stack ? nullptr : take_inbound_message(self));
    self->runtime_depth = 1;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    self->home->unfinished--;
    fiber* to = self->successor(self);
    self->state = fiber_status::finished;
    if (!can_end_fast(self)) [[unlikely]] {
      // only a parent takes the result; the hub's next fiber expects no message
      to->inbound_message = self->successor == living_ancestor ? last : nullptr;
      switch_to(self, to, true);
      __builtin_unreachable();
    }
    // Do here what reap() would do. The fiber, and so its stack, cannot be freed before we have
    // left it: its last reference can only be dropped on this kernel thread.
    self->unlink();
    self->started = false;
    self->recycled = self->pooled && !self->named && !self->extra.locals;
    enter(self, to);
    came = jump(to->sp, self);
  }
}

void leave_home(fiber_home* home) noexcept {
  if (home->users.fetch_sub(1, std::memory_order_acq_rel) == 1) home->calls->destroy(home);
}

void free_left_memory(fiber_home* home) noexcept {
  while (left_memory* left = take_left_memory(home)) free(left);
}

bool give_back_idle(fiber_home* home, std::size_t most) noexcept {
  while (fiber* f = home->idle) {
    if (most-- == 0) return true;
    home->idle = f->next_remote_release;
    home->stacks.give_back(f->stk);
  }
  return false;
}

void unwind_held(fiber* f) noexcept {
  fiber_ref(f);
  unwind(f);
  bool ended = f->state == fiber_status::finished;
  set_orphan(f, !ended);
  if (f->refs.fetch_sub(1, std::memory_order_acq_rel) == 1 && ended && !f->started) destroy(f);
}

void drop_remote_releases(fiber_home* home) noexcept {
  unref_all(home->remote_releases.exchange(nullptr, std::memory_order_acquire));
}

void close_home(fiber_home* home) noexcept {
  home->closed = true;
  home->users.fetch_add(home->living, std::memory_order_relaxed);
  unref_all(home->remote_releases.exchange(&home->main, std::memory_order_acq_rel));
}

bool make_room(fiber_home* home) noexcept {
  if (!home->has_room() && !home->calls->make_room(home)) return false;
  if (!home->has_begun) {
    home->has_begun = true;
    home->calls->begin_fibers(home);
  }
  return true;
}

bool prepare(fiber* f) noexcept {
  fiber_home* home = f->home;
  if (!make_room(home)) return false;
  if (!f->sp) {
    if (!f->on_stack && !f->left_stack) f->stk = home->stacks.take(f->stack_size);
    if (!f->stk.top) return false;
    f->sp = make_context(f->ctx, f->stk.bottom(), f->on_stack ? static_cast<void*>(f) : f->stk.top,
                         entry);
  }
  prepared(f);
  return true;
}

namespace {

// The exception state of a new fiber, which shares its creator's storage.
eh_state* exceptions_of(fiber* creator, const body& b) noexcept {
  if (!b.eh_globals) return &no_exceptions;
  if (creator->exceptions == &no_exceptions) creator->exceptions = b.eh_globals();
  return creator->exceptions;
}

}  // namespace

void share_exceptions(fiber* f, fiber* with) noexcept {
  f->exceptions = exceptions_of(with, *f->what);
}

namespace {

// Makes a fiber in that memory, which has room for its payload behind it.
fiber* make(void* memory, fiber* creator, const body& b, const fiber_options& o) noexcept {
  fiber* f = new (memory) fiber;
  fiber_home* home = creator->home;
  f->home = home;
  home->living++;
  f->storage = creator->storage;
  f->exceptions = exceptions_of(creator, b);
  f->kind = o.kind;
  f->what = &b;
  f->value_type = o.value_type;
  f->stack_size = o.stack_size;
  f->id = next_id(*home);
  if (o.name && *o.name) fiber_set_name(f, o.name);
  return f;
}

}  // namespace

fiber* make_task(fiber* creator, std::size_t payload_size, const body& b, std::size_t stack_size,
                 const char* name) noexcept {
  fiber_home* home = creator->home;
  fiber_options o{.stack_size = stack_size, .name = name, .kind = fiber_kind::task};
  if (home->remote_releases.load(std::memory_order_relaxed) && at_home(home))
    drop_remote_releases(home);
  std::size_t room = payload_offset + payload_size;
  // A payload that would use up much of the stack is allocated apart from it.
  if (room > stack_pool::smallest / 4) return make_fiber(creator, payload_size, b, o);
  stack stk;
  if (stack_size == 0 && home->idle) {
    stk = home->idle->stk;
    take_idle(home);
  } else {
    stk = home->stacks.take(stack_size);
  }
  if (!stk.size) return nullptr;
  auto at = (reinterpret_cast<std::uintptr_t>(stk.top) - room) & ~std::uintptr_t(63);
  fiber* f = make(reinterpret_cast<void*>(at), creator, b, o);
  f->stk = stk;
  f->payload_size = std::uint32_t(payload_size);
  f->on_stack = true;
  f->pooled = stack_size == 0;
  return f;
}

static fiber* made(void* memory, fiber* creator, std::size_t payload_size, const body& b,
                   const fiber_options& o) noexcept {
  fiber* f = make(memory, creator, b, o);
  f->payload_size = std::uint32_t(payload_size);
  if (o.kind == fiber_kind::explicit_switch) {
    f->successor = living_ancestor;
    f->parent = creator;
    fiber_ref(creator);
  }
  if (f->home->remote_releases.load(std::memory_order_relaxed) && at_home(f->home))
    drop_remote_releases(f->home);
  return f;
}

fiber* make_fiber(fiber* creator, std::size_t payload_size, const body& b,
                  const fiber_options& o) noexcept {
  void* memory = nullptr;
  while (left_memory* left = memory ? nullptr : take_left_memory(creator->home)) {
    if (left->payload_size == payload_size) memory = left;
    else free(left);
  }
  if (!memory) memory = malloc(fiber_size(payload_size));
  return memory ? made(memory, creator, payload_size, b, o) : nullptr;
}

fiber* fiber_new_at(void* memory, std::size_t payload_size, const body& b,
                    const fiber_options& o) noexcept {
  fiber* f = made(memory, current, payload_size, b, o);
  f->placed = true;
  return f;
}

namespace {

// On the home's kernel thread.
[[gnu::noinline]] void unref_here(fiber* f) noexcept {
  if (f->refs.load(std::memory_order_acquire) == 1 && !f->started) {
    // The only reference, so no other thread can be about to add one: spares a locked instruction.
    f->refs.store(0, std::memory_order_relaxed);
    release(f);
  } else if (f->refs.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    release(f);
  }
}

}  // namespace

void fiber_unref(fiber* f) noexcept {
  fiber_home* home = f->home;
  if (at_home(home)) [[likely]] {
    if (!f->recycled || f->refs.load(std::memory_order_acquire) != 1 || home->closed) [[unlikely]]
      return unref_here(f);
    // The usual end of a task.
    f->refs.store(0, std::memory_order_relaxed);
    f->what->destroy(fiber_payload(f));
    make_idle(f);
    home->living--;
    return;
  }
  // In the hub. A task that has been started does not end here, whoever holds it.
  if (current && current->home == home && f->started) {
    f->refs.fetch_sub(1, std::memory_order_acq_rel);
    return;
  }
  // Other kernel threads must not look at the fiber's state, so the last reference is handed to the
  // home thread as a remote release.
  std::uint32_t refs = f->refs.load(std::memory_order_acquire);
  while (refs > 1) {
    if (f->refs.compare_exchange_weak(refs, refs - 1, std::memory_order_acq_rel)) return;
  }
  fiber* head = home->remote_releases.load(std::memory_order_acquire);
  while (head != &home->main) {
    f->next_remote_release = head;
    if (home->remote_releases.compare_exchange_weak(head, f, std::memory_order_acq_rel)) return;
  }
  // The home's kernel thread has ended. A fiber that is still suspended is abandoned.
  if (f->refs.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (f == &home->main) leave_home(home);
  else if (f->state == fiber_status::fresh || f->state == fiber_status::finished) destroy(f);
}

void fiber_set_parent(fiber* f, fiber* parent) noexcept {
  fiber_ref(parent);
  fiber* old = f->parent;
  f->parent = parent;
  if (old) fiber_unref(old);
}

void reap() noexcept {
  fiber_home* home = current->home;
  fiber* f = home->to_reap;
  if (!f) return;
  home->to_reap = nullptr;
  if (f->state != fiber_status::finished) {
    // Since it was recorded, someone may have made a handle to it, or resumed it.
    if (f->state == fiber_status::switched && f->refs.load(std::memory_order_acquire) == 0)
      unwind(f);
    return;
  }
  f->unlink();
  destroy_context(f->ctx);
  if (!f->on_stack) {
    core::stack stk = f->stk;
    f->stk = {};
    if (f->left_stack) f->left_stack(f);
    else home->stacks.give_back(stk);
  }
  f->started = false;
  if (f->refs.load(std::memory_order_acquire) == 0) destroy(f);
}

}  // namespace tendril::core
