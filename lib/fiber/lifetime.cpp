#include "fiber/fiber.hpp"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include <new>

#include "scheduler/stack_overflow.hpp"

namespace tendril::core {

__thread fiber* current __attribute__((tls_model("initial-exec"))) = nullptr;
// head() relies on it
static_assert(offsetof(fiber, sp) == 0 && offsetof(fiber_home, inside) == 0);
static_assert(offsetof(fiber, value) == 64);  // the first line of the cache is full
constinit std::atomic<unsigned char> switches_carry{0};

namespace {

// Of those whose storage knows no C++ run-time, or is all their own.
eh_state no_exceptions;

// Numbers are handed out to kernel threads in blocks: what all share costs more than the rest of
// making a fiber.
constexpr std::uint64_t ids_per_block = 1024;
std::atomic<std::uint64_t> next_block{0};
std::uint64_t next_id(fiber_home& home) noexcept {
  if (home.last_id % ids_per_block == 0)
    home.last_id = next_block.fetch_add(1, std::memory_order_relaxed) * ids_per_block;
  return ++home.last_id;
}

fiber* living_ancestor(fiber* self) noexcept;
message* take_letter(fiber* self) noexcept;

// Whether this code runs on f's kernel thread, in a fiber that may switch: not in the hub.
bool at_home(const fiber_home* home) noexcept {
  return current && current->home == home && current->state == fiber_status::running;
}

void set_orphan(fiber* f, bool orphan) noexcept {
  f->orphan = orphan;
  tell_unusual(*f);
}

// Not to the pool at once: what is about to be written again is still in the cache.
void make_idle(fiber* f) noexcept {
  f->next_doomed = f->home->idle;
  f->home->idle = f;
}

// Not to the allocator: this is inside the runtime, where nobody may wait for a lock of the C
// library. Who holds it may be a thread that was made to give way.
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
  // A loop, for a long chain of dead parents must not overflow the stack.
  for (;;) {
    fiber* parent = f->parent;
    fiber_home* home = f->home;
    if (f->extra.locals) f->extra.drop_locals(f->extra.locals);
    bool placed = f->placed;
    if (f->what) f->what->destroy(fiber_payload(f));
    if (placed) {
      // Whoever made it may have given the memory away by now.
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
                   parent->state == fiber_status::finished && parent != home->leftover;
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

// Gives a message to a suspended fiber, and waits for whatever comes back.
message* switch_and_wait(fiber* to, message* m) noexcept {
  fiber* self = current;
  self->state = fiber_status::switched;
  self->awaits = nullptr;
  to->letter = m;
  switch_to(self, to);
  return take_letter(self);
}

// Throws fiber_exit into a suspended fiber, with the running fiber as its parent meanwhile.
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
  if (last && last->instead) self->home->trace_failure = last->instead;  // not ours to report
  if (last && last->error)
    sys::say("an exception left fiber '", f->name, "' while it was unwound; ignored");
  settle();
  f->successor = successor;
  if (f->parent == self) {
    f->parent = parent;
    parent = self;
  }
  if (parent) fiber_unref(parent);
  // One that caught fiber_exit and switched away stays suspended: it lives on, and perhaps nobody
  // can reach it.
  if (f->refs.fetch_sub(1, std::memory_order_acq_rel) != 1 || f->started) return;
  if (f->state == fiber_status::finished) destroy(f);
  else set_orphan(f, f->state != fiber_status::switched);
}

// The last reference is gone, at home.
void release(fiber* f) noexcept {
  if (f->started) return;  // settle() will
  switch (f->state) {
    case fiber_status::fresh:
      return destroy(f);
    case fiber_status::finished:
      if (f != f->home->leftover) destroy(f);
      return;
    case fiber_status::switched:
      return unwind(f);
    default:
      set_orphan(f, true);
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
  if (to->state == fiber_status::fresh && !prepare(to))
    sys::die("no memory for the stack of a fiber");
  return to;
}

void left_behind(fiber* from) noexcept {
  if (from->state == fiber_status::finished ||
      (from->orphan && from->state == fiber_status::switched)) {
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
  if (from->refs.fetch_sub(1, std::memory_order_acq_rel) == 1 && !from->started) {
    set_orphan(from, true);
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
  if (!m) return m;
  fiber_home* home = self->home;
  m->unsettled = home->leftover;
  if (home->trace_failure) [[unlikely]] {
    m->family = nullptr;
    m->instead = home->trace_failure;
    home->trace_failure = nullptr;
  }
  return m;
}

// Whether nothing is left to do for an ending fiber by the one that comes next: then it says so
// itself.
bool ends_plainly(const fiber* self) noexcept {
  return self->on_stack && !self->unusual && !self->parent &&
         self->refs.load(std::memory_order_acquire) != 0;
}

}  // namespace

// Where a context begins. That of a task that has ended plainly waits here to be the next one's.
[[noreturn]] static void entry(arrival came) {
  fiber* self = current;
  for (;;) {
    fiber* from = who_left(came.from);
    from->sp = came.context;
    arrived_first(from->ctx);
    self->home->inside = 0;
    if (self->home->handlers_are_due) [[unlikely]]
      run_handlers_due();
    if (!is_plain(came.from)) [[unlikely]]
      look_back(from, self);
    message* last = self->what->run(self, self->on_stack ? nullptr : take_letter(self));
    self->home->unfinished--;
    fiber* to = self->successor(self);
    self->state = fiber_status::finished;
    if (!ends_plainly(self)) [[unlikely]] {
      // who comes next in the hub expects none
      to->letter = self->successor == living_ancestor ? last : nullptr;
      switch_to(self, to, true);
      __builtin_unreachable();
    }
    // What settle() would do. Whoever holds the fiber cannot let go of it, and so of the stack,
    // before it is left.
    self->unlink();
    self->started = false;
    self->as_new = self->pooled && !self->named && !self->extra.locals;
    enter(self, to);
    came = jump(to->sp, self);
  }
}

void leave_home(fiber_home* home) noexcept {
  if (home->users.fetch_sub(1, std::memory_order_acq_rel) == 1) home->destroy(home);
}

void free_left_memory(fiber_home* home) noexcept {
  while (left_memory* left = take_left_memory(home)) free(left);
}

bool give_back_idle(fiber_home* home, std::size_t most) noexcept {
  while (fiber* f = home->idle) {
    if (most-- == 0) return true;
    home->idle = f->next_doomed;
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

void adopt_doomed(fiber_home* home) noexcept {
  unref_all(home->doomed.exchange(nullptr, std::memory_order_acquire));
}

void close_home(fiber_home* home) noexcept {
  home->closed = true;
  home->users.fetch_add(home->living, std::memory_order_relaxed);
  unref_all(home->doomed.exchange(&home->main, std::memory_order_acq_rel));
}

fiber_home::fiber_home() noexcept : tid(sys::gettid()), pid(sys::getpid()) {
  unusual = main.unusual = sanitized;
  main.home = this;
  main.exceptions = &no_exceptions;
  if (!arch::thread_pointer_by_instruction(getauxval(AT_HWCAP2))) switches_carry |= system_call;
  storage.pointer = arch::thread_pointer();
  storage.current = &current;
  main.storage = &storage;
  storage.signals.owner = &main;
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, 0, &storage.signals.mask, 8);
  main.state = fiber_status::running;
  main.id = next_id(*this);
  strcpy(main.name, "main");
  fibers.push_back(main);
}

bool prepare(fiber* f) noexcept {
  fiber_home* home = f->home;
  if (!home->has_room() && !home->make_room(home)) return false;
  if (!home->watches_overflow) watch_overflow(*home);
  if (!f->sp) {
    if (!f->on_stack && !f->left_stack) f->stk = home->stacks.take(f->stack_size);
    if (!f->stk.top) return false;
    f->sp = make_context(f->ctx, f->stk.bottom(), f->on_stack ? static_cast<void*>(f) : f->stk.top,
                         entry);
  }
  prepared(f);
  return true;
}

void carry_all(thread_storage* from, thread_storage* to, fiber_home* home) noexcept {
  if (!arch::set_thread_pointer(to->pointer, !switches_carry_any(system_call))) [[unlikely]]
    sys::die("a filter (seccomp) forbids to set the thread pointer; use --threads=kernel");
  if (from->float_flags != to->float_flags)
    arch::set_float_flags(from->float_flags, to->float_flags);
  if (switches_carry_any(cpu_time)) count_cpu_time(*from, *to, *home);
  if (switches_carry_any(identities)) carry_identity(*from, *to);
  if (switches_carry_any(protection_rights)) {
    // In a handler they are the kernel's first ones, until it returns: who is left there gets his
    // own back by that.
    from->protection = arch::protection_rights();
    if (from->protection != to->protection) arch::set_protection_rights(to->protection);
  }
  signal_state& a = from->signals;
  signal_state& b = to->signals;
  if (a.unsure) {
    std::uint64_t now = 0;
    sys::call(SYS_rt_sigprocmask, SIG_BLOCK, 0, &now, 8);
    if (home->several_threads && !a.gone) home->masks.change(a.mask, now);
    a.mask = now;
    a.unsure = a.depth > 0;
  }
  if (b.due) home->handlers_are_due = true;
  if (a.mask != b.mask) sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &b.mask, 0, 8);
}

// A sequence lock: whoever reads a value that is stored here sees that `changes` was odd then.
// (Fences would do as well, but the thread sanitizer does not know them.)
void count_cpu_time(thread_storage& running, thread_storage& next, fiber_home& home) noexcept {
  auto& cpu = home.cpu;
  constexpr auto relaxed = std::memory_order_relaxed, release = std::memory_order_release;
  unsigned changes = cpu.changes.load(relaxed);
  nanoseconds now = time_of(CLOCK_THREAD_CPUTIME_ID);
  cpu.changes.store(changes + 1, relaxed);
  running.cpu_time.store(running.cpu_time.load(relaxed) + now - cpu.counted.load(relaxed), release);
  cpu.counted.store(now, release);
  cpu.user.store(&next, release);
  cpu.changes.store(changes + 2, release);
}

nanoseconds cpu_time_elsewhere(const thread_storage& t, const fiber_home& home,
                               clockid_t homes_clock) noexcept {
  auto& cpu = home.cpu;
  constexpr auto acquire = std::memory_order_acquire;
  for (;;) {
    unsigned changes = cpu.changes.load(acquire);
    nanoseconds used = t.cpu_time.load(acquire);
    if (cpu.user.load(acquire) == &t) used += time_of(homes_clock) - cpu.counted.load(acquire);
    if (!(changes & 1) && cpu.changes.load(std::memory_order_relaxed) == changes) return used;
    arch::relax();
  }
}

void look_back(fiber* from, fiber* self) noexcept {
  left_behind(from);
  if (self->home->trace) tell_tracer(from, self);
}

// --- the seam to the public headers ---

#ifndef __x86_64__
arrival jump(void* to, void* cargo) noexcept { return jump_last(to, cargo); }
#endif

namespace {

// A new fiber's, which shares its creator's storage.
eh_state* exceptions_of(fiber* creator, const body& b) noexcept {
  if (!b.eh_globals) return &no_exceptions;
  if (creator->exceptions == &no_exceptions) creator->exceptions = b.eh_globals();
  return creator->exceptions;
}

// A new fiber in that memory, behind which there is room for its payload.
fiber* make(void* memory, fiber* creator, const body& b, const fiber_options& o) noexcept {
  fiber* f = new (memory) fiber;
  fiber_home* home = creator->home;
  f->home = home;
  home->living++;
  f->storage = creator->storage;
  f->exceptions = exceptions_of(creator, b);
  f->kind = o.kind;
  f->what = &b;
  f->family = o.family;
  f->stack_size = o.stack_size;
  f->id = next_id(*home);
  if (o.name && *o.name) fiber_set_name(f, o.name);
  return f;
}

// Takes the last of the idle ones.
[[gnu::always_inline]] inline void take_idle(fiber_home* home) noexcept {
  fiber* next = home->idle->next_doomed;
  home->idle = next;
  if (!next) return;
  // Whoever spawns one task often spawns another.
  const char* to_come = reinterpret_cast<const char*>(next);
  for (std::size_t at = 0; at < offsetof(fiber, stk); at += 64) __builtin_prefetch(to_come + at, 1);
  __builtin_prefetch(fiber_payload(next), 1);
  __builtin_prefetch(to_come - 64, 1);  // its stack
}

// An ended task becomes a new one, where it lies, of the same thread.
[[gnu::always_inline]] inline void begin_again(fiber* f, const body& b) noexcept {
  f->home->living++;
  f->refs.store(1, std::memory_order_relaxed);
  f->what = &b;
  f->id = next_id(*f->home);
  f->as_new = false;
  arch::inherit_float_control(f->sp);  // the task before may have changed its own
}

}  // namespace

fiber* task_new(std::size_t payload_size, const body& b, std::size_t stack_size,
                const char* name) noexcept {
  fiber* creator = ensure_current();
  fiber_home* home = creator->home;
  fiber_options o{.stack_size = stack_size, .name = name, .kind = fiber_kind::task};
  if (home->doomed.load(std::memory_order_relaxed) && at_home(home)) adopt_doomed(home);
  std::size_t room = payload_offset + payload_size;
  // A payload that would not leave much of its stack lies beside it.
  if (room > stack_pool::smallest / 4) return fiber_new(payload_size, b, o);
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

fiber* plain_task_new(std::size_t payload_size, const body& b) noexcept {
  // All that is rare goes the same way, and last: the usual way needs no frame.
  fiber* creator = current;
  fiber* last = creator ? creator->home->idle : nullptr;
  if (!last || !last->as_new || last->payload_size != payload_size ||
      last->storage != creator->storage || creator->home->doomed.load(std::memory_order_relaxed))
      [[unlikely]] {
    return task_new(payload_size, b, 0, "");
  }
  take_idle(last->home);
  begin_again(last, b);
  return last;
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
  if (f->home->doomed.load(std::memory_order_relaxed) && at_home(f->home)) adopt_doomed(f->home);
  return f;
}

fiber* fiber_new(std::size_t payload_size, const body& b, const fiber_options& o) noexcept {
  fiber* creator = ensure_current();
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
  fiber* f = made(memory, ensure_current(), payload_size, b, o);
  f->placed = true;
  return f;
}

void fiber_ref(fiber* f) noexcept { f->refs.fetch_add(1, std::memory_order_relaxed); }

namespace {

// At home.
[[gnu::noinline]] void unref_here(fiber* f) noexcept {
  if (f->refs.load(std::memory_order_acquire) == 1 && !f->started) {
    // The only one left, so nobody can be about to make another: spares a locked instruction.
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
    if (!f->as_new || f->refs.load(std::memory_order_acquire) != 1 || home->closed) [[unlikely]]
      return unref_here(f);
    // The usual end of a task.
    f->refs.store(0, std::memory_order_relaxed);
    f->what->destroy(fiber_payload(f));
    make_idle(f);
    home->living--;
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

fiber* make_current() noexcept { return ensure_current(); }
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
  f->named = n != 0;
}

arrival fiber_exchange(fiber* to, message* m, const void* family) noexcept {
  fiber* self = ensure_current();
  if (to->home != self->home) [[unlikely]]
    return no_switch(std::uintptr_t(refusal::other_thread));
  if (to->state != fiber_status::switched) [[unlikely]] {
    to = fiber_living(to);
    if (to == self) {
      self->letter = m;
      return {nullptr, self};
    }
    if (to->state == fiber_status::parked || to->state == fiber_status::ready) {
      return no_switch(std::uintptr_t(refusal::in_hub));
    }
  }
  // One that waits for nothing in particular unwinds another fiber, and lets go of whatever
  // arrives.
  const void* wanted = to->state == fiber_status::fresh ? to->family : to->awaits;
  if (wanted != family && wanted && !m->error) [[unlikely]] {
    return no_switch(std::uintptr_t(refusal::other_family));
  }
  if (to->state == fiber_status::fresh && !prepare(to)) [[unlikely]] {
    return no_switch(std::uintptr_t(refusal::no_memory));
  }
  self->state = fiber_status::switched;
  self->awaits = self->family = family;
  to->letter = m;
  depart(self, to);
  return jump_last(to->sp, with_look_back(self));
}

message* fiber_arrived(void* context, void* from, message* plain) noexcept {
  fiber* self = current;
  if (from != self) arrive(self, context, from);
  self->awaits = nullptr;
  if (!is_plain(from) || from == self) return take_letter(self);
  *plain = {};
  plain->family = self->family;
  plain->value = self->value;
  if (self->home->inside == 0 && self->home->handlers_are_due) [[unlikely]]
    run_handlers_due();
  return plain;
}

void settle() noexcept {
  fiber_home* home = current->home;
  fiber* f = home->leftover;
  if (!f) return;
  home->leftover = nullptr;
  if (f->state != fiber_status::finished) {
    // Somebody may have made a handle of it, or run it, since it was left behind.
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

void set_tracer(tracer t, void* context, void (*drop)(void*) noexcept) noexcept {
  fiber_home* home = ensure_current()->home;
  void* old = home->trace ? home->trace_context : nullptr;
  auto* drop_old = home->drop_trace_context;
  home->trace = t;
  home->unusual = sanitized || t;
  for (fiber* f = home->fibers.front(); f; f = home->fibers.after(*f)) tell_unusual(*f);
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
