// pthread_create(3), pthread_join(3) and what else makes and ends threads.
#include "posix/threads/thread.hpp"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <tendril/detail/notice.hpp>

#include <algorithm>
#include <new>

#include "base/fork_handlers.hpp"
#include "base/futex_lock.hpp"
#include "fiber/stack_protection.hpp"
#include "libc/elf_scan.hpp"
#include "posix/common/futex.hpp"
#include "posix/descriptors/stdio.hpp"
#include "posix/locks/ownership.hpp"
#include "posix/locks/robust.hpp"
#include "posix/signals/inherited_pending.hpp"
#include "posix/threads/preempt.hpp"

extern "C" {
// The C library's own way to stop the unwinding of pthread_exit and pthread_cancel at a frame.
void __pthread_register_cancel(__pthread_unwind_buf_t*);
void __pthread_unwind_next(__pthread_unwind_buf_t*) __attribute__((noreturn));
int __sigsetjmp(struct __jmp_buf_tag*, int) noexcept __attribute__((returns_twice));
}

namespace tendril::posix {

__thread thread* this_thread __attribute__((tls_model("initial-exec"))) = nullptr;
constinit std::atomic<bool> threads_are_fibers{false};
constinit std::atomic<std::uint32_t> living{1};

__thread int known_tid __attribute__((tls_model("initial-exec"))) = 0;

namespace {

constinit thread main_thread;
// The hub on which the program's threads live: the main thread's.
constinit std::atomic<hub*> threads_home{nullptr};
// --- stacks with a thread's object, fiber and storage at their top, kept for the next thread ---

constexpr std::size_t most_idle = 256;
// of stacks, where address space is limited: as the C library keeps
constexpr std::size_t most_idle_bytes = 40 << 20;

struct idle_threads {
  core::futex_lock lock;
  thread* first = nullptr;
  std::size_t count = 0;
  std::size_t bytes = 0;
  bool too_many(bool limited) const noexcept {
    return count > most_idle || (limited && bytes > most_idle_bytes);
  }
  std::atomic<std::size_t> beside = 0;  // of them on stacks of the program's
};
constinit idle_threads idle;

constexpr std::size_t whole_lines(std::size_t n) noexcept { return (n + 63) / 64 * 64; }
constexpr std::size_t fiber_offset = whole_lines(sizeof(thread));
constexpr std::size_t storage_offset =
    fiber_offset + whole_lines(core::fiber_size(sizeof(thread*)));
std::size_t top_size() noexcept { return storage_offset + core::tls::block_size(); }
void* fiber_place(thread* t) noexcept { return reinterpret_cast<char*>(t) + fiber_offset; }
void* storage_place(thread* t) noexcept { return reinterpret_cast<char*>(t) + storage_offset; }

// The last one that `suits`; null: none.
template <class F>
thread* take_idle(F suits) noexcept {
  core::undisturbed quiet;
  core::futex_guard guard(idle.lock);
  for (thread** t = &idle.first; *t; t = &(*t)->next_idle) {
    thread* found = *t;
    if (!suits(*found)) continue;
    *t = found->next_idle;
    idle.count--;
    idle.bytes -= found->stack.size + found->stack.guard;
    if (found->allocated) idle.beside--;
    return found;
  }
  return nullptr;
}

void keep_idle(thread* t) noexcept {
  core::undisturbed quiet;
  core::futex_guard guard(idle.lock);
  t->next_idle = idle.first;
  idle.first = t;
  idle.count++;
  idle.bytes += t->stack.size + t->stack.guard;
  if (t->allocated) idle.beside++;
}

thread* object_at(void* place) noexcept {
  thread* t = new (place) thread;
  void* pointer = core::tls::make(storage_place(t));
  if (!pointer) return nullptr;
  t->storage.pointer = pointer;
  return t;
}

// An idle thread made new, as object_at() makes one.
thread* renewed(thread* t) noexcept {
  core::stack s = t->stack;
  void* pointer = t->storage.pointer;
  free(t->processors);
  free(t->storage.identity);
  new (t) thread;
  t->stack = s;
  t->storage.pointer = pointer;
  return core::tls::renew(pointer) ? t : nullptr;
}

// What a stack has above what the program asked for. A small one is to have the room for calls that
// it has natively, so that what is ours of a thread lies beyond it; but the first frame lies in
// what was asked for. In a larger one the few KB do not matter, and its thread-local storage lies
// where garbage collectors look for it, and in no page more than natively.
std::size_t room_above(std::size_t size) noexcept {
  constexpr std::size_t small = 1 << 20;
  return size < small ? top_size() / core::page * core::page : 0;
}

// A thread object on a stack of that size, with a guard of that size below; null: no memory.
thread* make_on_stack(hub& h, std::size_t asked, std::size_t guard) noexcept {
  std::size_t room = room_above(asked), size = core::whole_pages(asked) + room;
  // One page is a guard even if none was asked for: below lies another thread's stack.
  guard = guard ? core::whole_pages(guard) : core::page;
  if (thread* t = take_idle(
          [&](const thread& i) { return i.stack.size == size && i.stack.guard == guard; })) {
    if (thread* again = renewed(t)) return again;
    h.stacks.give_back(t->stack);
    return nullptr;
  }
  core::stack s;
  {
    core::handlers_wait quiet(h);
    s = h.stacks.take_for_thread(size, guard);
  }
  if (!s.size) return nullptr;
  // Half as far below the end as the pool says: two pages hold a thread that sleeps.
  char* end = reinterpret_cast<char*>(s.bottom() + asked + room);
  auto top = reinterpret_cast<std::uintptr_t>(end - (s.end() - s.top) / 2);
  char* place = reinterpret_cast<char*>((top - top_size()) & ~std::uintptr_t(63));
  if (s.used) memset(place, 0, top_size());
  thread* t = object_at(place);
  if (!t) {
    h.stacks.give_back(s);
    return nullptr;
  }
  t->stack = s;
  return t;
}

// For a thread that brings its own stack.
thread* make_beside(void* stack, std::size_t size) noexcept {
  void* place = nullptr;
  if (posix_memalign(&place, 64, top_size()) != 0) return nullptr;
  memset(place, 0, top_size());
  thread* t = object_at(place);
  if (!t) {
    free(place);
    return nullptr;
  }
  t->allocated = place;
  t->stack.base = static_cast<std::byte*>(stack);
  t->stack.top = static_cast<std::byte*>(stack) + size;
  return t;
}

// Also inside the runtime, where nobody may wait for a lock of the C library (see leave_memory() in
// fiber/lifetime.cpp).
void recycle(thread* t) noexcept {
  if (!t->is_fiber()) return;  // the main thread
  std::uint32_t before =
      t->life.fetch_or(thread::ended | thread::joined, std::memory_order_acq_rel);
  // else the fiber's end does, which somebody may still hold
  if (before & thread::free_of_fiber) keep_idle(t);
}
void fiber_is_gone(void* payload) noexcept {
  thread* t = *static_cast<thread**>(payload);
  if (t->life.fetch_or(thread::free_of_fiber, std::memory_order_acq_rel) & thread::joined)
    keep_idle(t);
}

// Gives back what ended threads have left and the next ones will not need. Not inside the runtime.
void tidy_up() noexcept {
  while (idle.beside.load(std::memory_order_relaxed) != 0) {
    thread* t = take_idle([](const thread& i) { return i.allocated != nullptr; });
    if (!t) break;
    core::tls::drop(t->storage.pointer);
    free(t->processors);
    free(t->storage.identity);
    free(t->allocated);
  }
  // Stacks are given back on their own kernel thread only.
  hub* h = threads_home.load(std::memory_order_relaxed);
  if (!idle.too_many(true) || !core::current || core::current->home != h) return;
  rlimit limit;
  bool limited =
      sys::call(SYS_prlimit64, 0, RLIMIT_AS, 0, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  if (!idle.too_many(limited)) return;
  while (idle.too_many(limited)) {
    thread* surplus = take_idle([](const thread& i) { return !i.allocated; });
    if (!surplus) break;
    core::stack s = surplus->stack;
    free(surplus->processors);
    free(surplus->storage.identity);
    core::tls::drop(surplus->storage.pointer);
    core::handlers_wait quiet(*h);
    h->stacks.give_back(s);
  }
  // Address space comes back at once, as natively: of small stacks, where there is a limit, else
  // with the next round of trim().
  core::handlers_wait quiet(*h);
  h->stacks.unmap_free(limited);
}

// The same on the hub's time, inside the runtime, where nothing can be given to the C library: most
// of an idle thread's stack, if it was idle the last time, too. Returns whether there is more to
// come.
bool trim_idle() noexcept {
  core::futex_guard guard(idle.lock);
  bool more = false;
  for (thread* t = idle.first; t; t = t->next_idle) {
    if (t->allocated || t->idle_for == thread::trimmed) continue;
    if (t->idle_for == thread::one_round) {
      auto used = reinterpret_cast<std::uintptr_t>(t) / core::page * core::page;
      auto bottom = reinterpret_cast<std::uintptr_t>(t->stack.bottom());
      sys::advise(t->stack.bottom(), used - bottom, MADV_DONTNEED);
      t->idle_for = thread::trimmed;
    } else {
      t->idle_for = thread::one_round;
      more = true;
    }
  }
  return more;
}

// --- a thread's life ---

// Calls run() on the thread, and when that has returned, or been left by pthread_exit or
// pthread_cancel, the destructors of what the thread has for itself; one of those that is left in
// the same way is followed by the rest.
template <class F>
__attribute__((noinline)) void run_to_end(thread* t, F run) noexcept {
  __pthread_unwind_buf_t here;
  if (__sigsetjmp(reinterpret_cast<struct __jmp_buf_tag*>(here.__cancel_jmp_buf), 0) == 0) {
    __pthread_register_cancel(&here);
    run();
  } else {
    // There have never been fibers: it is a thread of the C library's, which ends it.
    if (!threads_home.load(std::memory_order_relaxed)) __pthread_unwind_next(&here);
    if (!t->exits) t->result = PTHREAD_CANCELED;
  }
  leave_streams();
  core::tls::end();
  int ignored;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored);
  robust::thread_ends();
  timers_lose_thread(*core::current->storage);
  clocks_lose_thread(*t);
}

void one_less() noexcept {
  std::uint32_t were = living.fetch_sub(1);
  if (were == 2) watcher_may_end();
  if (were == 1) futex::wake(&living, INT32_MAX);
}

// Signals that were sent to the running thread before it ran for the first time.
void handle_what_has_come(hub& h) noexcept {
  if (!core::current->storage->signals.due) return;
  core::handlers_wait quiet(h);
  h.look_for_handlers();
}

core::message* body_run(fiber* f, core::message*) noexcept {
  thread* t = *static_cast<thread**>(core::fiber_payload(f));
  core::settle();
  core::tls::begin();
  run_to_end(t, [t, f] {
    handle_what_has_come(*hub::of(f));
    t->result = t->start(t->argument);
  });
  tidy_up();  // for those that nobody joins
  hub::of(f)->thread_ends(t->storage);
  // It will be as they expect when they run.
  futex::wake(&t->life, INT32_MAX);
  one_less();
  return nullptr;
}

// The fiber has left its stack, which may go to the next thread from here on.
void left_stack(fiber* f) noexcept {
  hub::of(f)->note_left_memory();
  thread* t = *static_cast<thread**>(core::fiber_payload(f));
  if (t->life.fetch_or(thread::ended, std::memory_order_acq_rel) & thread::detached) recycle(t);
  else futex::wake(&t->life, INT32_MAX);  // by now it may be another's, but the address will do
}

constexpr core::body thread_body{body_run, fiber_is_gone};

// What an attribute object says, as far as it concerns us.
struct attributes {
  std::size_t stack_size = 0, guard_size = 0;
  void* stack = nullptr;
  bool detached = false;
  bool explicit_scheduling = false;
  int policy = SCHED_OTHER, priority = 0;
  bool has_mask = false, has_processors = false;
  std::uint64_t mask = 0;
  cpu_set_t processors;
};

void read_attributes(const pthread_attr_t* from, attributes& a) noexcept {
  void* stack = nullptr;
  pthread_attr_getstack(from, &stack, &a.stack_size);
  std::size_t given = 0;
  pthread_attr_getstacksize(from, &given);
  int state = 0, inherits = 0;
  pthread_attr_getdetachstate(from, &state);
  pthread_attr_getguardsize(from, &a.guard_size);
  pthread_attr_getinheritsched(from, &inherits);
  a.detached = state == PTHREAD_CREATE_DETACHED;
  // Without an address, the C library computes one that is below zero.
  if (reinterpret_cast<std::uintptr_t>(stack) + a.stack_size != 0 && a.stack_size == given)
    a.stack = stack;
  a.stack_size = given;
  if (inherits == PTHREAD_EXPLICIT_SCHED) {
    a.explicit_scheduling = true;
    sched_param p{};
    pthread_attr_getschedpolicy(from, &a.policy);
    pthread_attr_getschedparam(from, &p);
    a.priority = p.sched_priority;
  }
  sigset_t mask;
  a.has_mask = pthread_attr_getsigmask_np(from, &mask) == 0;
  if (a.has_mask) memcpy(&a.mask, &mask, sizeof a.mask);
  // All there can be: none were set.
  cpu_set_t all;
  memset(&all, -1, sizeof all);
  a.has_processors = pthread_attr_getaffinity_np(from, sizeof a.processors, &a.processors) == 0 &&
                     !CPU_EQUAL(&a.processors, &all);
}

// Sizes that the C library refuses, and as it has the others.
int refused_sizes(attributes& a) noexcept {
  constexpr std::size_t least_rest = 2048;  // MINIMAL_REST_STACK
  std::size_t guard = core::whole_pages(a.guard_size);
  a.stack_size &= ~(core::tls::alignment() - 1);
  if (guard < a.guard_size || a.stack_size + guard < guard) return EINVAL;
  if (a.stack_size + guard < core::whole_pages(guard + core::tls::size_on_stack() + least_rest))
    return EINVAL;
  a.guard_size = guard;
  return 0;
}

// Those of a thread that is to be made: what it is not told is as the process's default has it, or
// its creator.
void attributes_for(const pthread_attr_t* given, attributes& a) noexcept {
  pthread_attr_t usual;
  bool has_usual = pthread_getattr_default_np(&usual) == 0;
  if (given || has_usual) read_attributes(given ? given : &usual, a);
  if (a.stack_size == 0 && has_usual) pthread_attr_getstacksize(&usual, &a.stack_size);
  if (has_usual) pthread_attr_destroy(&usual);
  if (!a.explicit_scheduling) own_scheduling(a.policy, a.priority);
}

// What the program calls to give up capabilities, which it then does for one thread, for good;
// null: nothing. (Libraries that could do so are loaded by many programs that never do.)
const char* imported_capability_call() noexcept {
  for (const char* name : {
#define CHANGES_ONE_THREAD(name) #name,
#include "libc/one_thread.def"
       }) {
    if (program_itself_imports(name)) return name;
  }
  return nullptr;
}

// Whether threads can be fibers in this process. If not, all that concerns them is the C library's
// from now on: its own cancellation does not reach who waits in our table.
bool possible() noexcept {
  if (!threads_are_fibers.load(std::memory_order_relaxed)) return false;
  if (threads_home.load(std::memory_order_relaxed) || sys::gettid() != sys::getpid()) return true;
  const char* why = core::tls::obstacle();
  bool ticks = tick_installed() && tick_can_be_sent();
  const char* call = why ? nullptr : imported_capability_call();
  if (!why && ticks && !call) return true;
  threads_are_fibers = false;
  locks_are_ours = false;
  if (!notices_wanted()) return false;
  if (why)
    sys::say("threads stay kernel threads: Tendril does not know this C library (", why, ")");
  else if (call)
    sys::say("threads stay kernel threads: the program calls ", call,
             ", which changes one of them for good");
  else
    sys::say(
        "threads stay kernel threads: signal 32, by which they would take turns, cannot be sent or "
        "handled here");
  return false;
}

// The C library ends the process where it finds no memory for what it notes of a first thread
// (destructors of thread_local objects), so that is asked for beforehand.
bool memory_left() noexcept {
  constexpr std::size_t plenty = 16 * 1024;
  void* volatile p = malloc(plenty);  // which compilers leave out otherwise
  free(p);
  return p;
}

// The thread that goes on in a child of a bare clone(2): there its number is the process's, though
// locks know it by that of its parent's, which the C library leaves where it stands.
constinit const void* renumbered = nullptr;

// The first thread: from here on there are fibers. Null: threads stay the kernel's.
hub* begin_threads() noexcept {
  hub* h = threads_home.load(std::memory_order_acquire);
  if (h) {
    watch(*h);  // in a forked child nobody does yet
    return h;
  }
  if (sys::gettid() != sys::getpid() || !(core::current || core::try_to_make_home()))
    return nullptr;
  look_up_real_calls();
  look_at_streams();
  h = &hub::here();
  // A real one, by which the C library learns that there are several: it does so only as long as
  // nobody has told it.
  watch(*h);
  main_thread.id = pthread_self();
  main_thread.runs = &h->main;
  main_thread.storage.pointer = arch::thread_pointer();
  this_thread = &main_thread;
  core::tls::several();
  core::look_at_stack_protection();
  h->trim_threads = trim_idle;
  h->begin_threads();
  take_over_pending(*h);
  threads_home.store(h, std::memory_order_release);
  return h;
}

// Whether the caller of pthread_create needs a kernel thread; says so the first time.
bool needs_kernels(const void* caller) noexcept {
  const char* why = caller ? waits_inline(caller) : nullptr;
  if (!why) return false;
  static constinit std::atomic<bool> told{false};
  if (!told.exchange(true, std::memory_order_relaxed) && notices_wanted()) {
    Dl_info module{};
    dladdr(caller, &module);
    sys::say("threads created by ", module.dli_fname ? module.dli_fname : "some code",
             " stay kernel threads: ", why);
  }
  return true;
}

void after_fork() noexcept {
  known_tid = 0;
  renumbered = nullptr;
  hub* h = threads_home.load(std::memory_order_relaxed);
  if (!h) return;
  living = 1;
  core::tls::other_tids();
  timers_are_not_inherited();
  clocks_are_not_inherited();
  new (&idle) idle_threads;
}

}  // namespace

thread* thread_of(pthread_t id) noexcept {
  if (!threads_home.load(std::memory_order_relaxed)) return nullptr;
  return *core::tls::other(core::tls::pointer_of(reinterpret_cast<void*>(id)), &this_thread);
}

thread* thread_of(int tid) noexcept {
  hub* h = threads_home.load(std::memory_order_relaxed);
  if (!h || !core::current || core::current->home != h) return nullptr;
  core::handlers_wait quiet(*h);
  for (fiber* f = h->fibers.front(); f; f = h->fibers.after(*f)) {
    if (f->storage->signals.owner != f || f->storage->signals.gone ||
        f->state == core::fiber_status::finished)
      continue;
    if (*core::tls::tid(f->storage->pointer) == tid)
      return *core::tls::other(f->storage->pointer, &this_thread);
  }
  return nullptr;
}

void bare_child_begins(bool shares_descriptors) noexcept {
  core::begin_child(shares_descriptors);
  renumbered = arch::thread_pointer();
}

pid_t gettid() {
  return this_thread && renumbered != arch::thread_pointer() ? own_tid() : pid_t(sys::gettid());
}

int look_up_own_tid() noexcept {
  return known_tid = this_thread ? *core::tls::tid(arch::thread_pointer()) : sys::gettid();
}

void threads_become_fibers() noexcept {
  // Before any lock is taken: one that is taken in our way cannot be let go in the C library's.
  threads_are_fibers = !core::tls::watcher_sees_threads();
  locks_are_ours = threads_are_fibers.load();
}

const char* threads_obstacle() noexcept { return core::tls::obstacle(); }

int pthread_create(pthread_t* id, const pthread_attr_t* attr, void* (*start)(void*), void* argument,
                   const void* caller) {
  bool first = threads_are_fibers.load(std::memory_order_relaxed) &&
               !threads_home.load(std::memory_order_relaxed);
  if (first && !memory_left()) return EAGAIN;
  hub* h = possible() && !needs_kernels(caller) ? begin_threads() : nullptr;
  // A kernel thread that is not the hub's was made by somebody who needs those, and so are its own.
  if (!h || !core::current || core::current->home != h || !in_hubs_process()) {
    return real.pthread_create(id, attr, start, argument);
  }
  attributes a;
  attributes_for(attr, a);
  if (int r = a.stack ? 0 : refused_sizes(a)) return r;
  if (a.explicit_scheduling) {
    sched_param p{};
    p.sched_priority = a.priority;
    if (int r = scheduling_allowed(a.policy, &p)) return r;
  }
  int saved = errno;
  tidy_up();
  if (!core::stack_protection_is_current(modules_seen())) core::look_at_stack_protection();
  if (core::stacks_hold_code() && !h->stacks.allows_code()) {
    core::handlers_wait quiet(*h);
    h->stacks.allow_code();
  }
  auto make = [&] {
    return a.stack ? make_beside(a.stack, a.stack_size)
                   : make_on_stack(*h, a.stack_size, a.guard_size);
  };
  thread* t = make();
  if (!t) {
    let_others_run();  // who ends leaves memory
    t = make();
  }
  if (!t) return EAGAIN;
  t->id = reinterpret_cast<pthread_t>(core::tls::descriptor(t->storage.pointer));
  t->start = start;
  t->argument = argument;
  t->guard_size = a.stack ? 0 : a.guard_size;
  t->explicit_scheduling = a.explicit_scheduling;
  t->policy = a.policy;
  t->priority = a.priority;
  if (this_thread && this_thread->processors &&
      (t->processors = static_cast<cpu_set_t*>(malloc(sizeof(cpu_set_t))))) {
    *t->processors = *this_thread->processors;
  }
  if (a.has_processors) {
    if (int r = set_processors(t, sizeof a.processors, &a.processors)) {
      recycle(t);
      return r == ENOMEM ? EAGAIN : r;
    }
  }
  // After set_processors(), whose failure is the last.
  if (core::identity* creators = core::current->storage->identity;
      creators && !(t->storage.identity = copy_of(*creators))) {
    recycle(t);
    return EAGAIN;
  }
  t->storage.current = core::tls::other(t->storage.pointer, &core::current);
  *core::tls::other(t->storage.pointer, &this_thread) = t;

  core::fiber_options o;
  o.kind = core::fiber_kind::task;
  fiber* f = core::fiber_new_at(fiber_place(t), sizeof(thread*), thread_body, o);
  t->life = a.detached ? std::uint32_t(thread::detached) : 0;
  *static_cast<thread**>(core::fiber_payload(f)) = t;
  t->runs = f;
  if (this_thread && this_thread->named) {
    t->named = true;
    memcpy(f->name, this_thread->runs->name, sizeof f->name);
  }
  f->storage = &t->storage;
  f->stk = t->stack;
  if (!t->allocated) f->stk.size = a.stack_size;  // as the report of an overflow names it
  f->left_stack = left_stack;
  // Below the object and the storage, or all of what the program gave.
  if (!t->allocated) f->stk.top = reinterpret_cast<std::byte*>(t);
  if (t->allocated) {
    t->stack_address = a.stack;
    t->stack_size = a.stack_size;
  } else {
    // Right above the guard, as the C library's.
    t->stack_address = t->stack.bottom();
    t->stack_size = a.stack_size;
  }
  *id = t->id;
  living.fetch_add(1);
  watch(*h);  // the watcher may just have ended, as there was nobody
  {
    core::handlers_wait quiet(*h);
    t->storage.float_flags = arch::float_flags();
    if (core::switches_carry_any(core::protection_rights))
      t->storage.protection = arch::protection_rights();
    h->thread_begins(t->storage, f, a.has_mask ? a.mask : h->own_mask());
  }
  bool started = core::start(f);
  if (!started) h->thread_ends(t->storage);
  core::fiber_unref(f);
  errno = saved;
  if (started) return 0;
  recycle(t);
  one_less();
  return EAGAIN;
}

namespace {

// What the join functions share; `until` null: only look.
int join(pthread_t id, void** result, const deadline* until) noexcept {
  thread* t = thread_of(id);
  thread* self = this_thread;
  if (t == self) return EDEADLK;
  std::uint32_t known = t->life.load(std::memory_order_acquire);
  if (known & thread::joined) return ESRCH;
  if (known & thread::detached) return EINVAL;
  // Each waits for the other, unless one of them is being cancelled.
  if (self && self->joiner.load(std::memory_order_relaxed) == t &&
      !core::tls::ends_early(t->storage.pointer) && !cancel_due()) {
    return EDEADLK;
  }
  thread* nobody = nullptr;
  thread* me = self ? self : &main_thread;
  if (!t->joiner.compare_exchange_strong(nobody, me)) return EINVAL;
  for (;;) {
    std::uint32_t life = t->life.load(std::memory_order_acquire);
    if (life & thread::ended) break;
    int r = until ? futex::wait(&t->life, life, *until, futex::ends::by_cancel) : -EBUSY;
    if (r == 0 || r == -EAGAIN) continue;
    t->joiner = nullptr;
    if (r == -ECANCELED) act_on_cancel();
    return -r;
  }
  if (result) *result = t->result;
  recycle(t);
  tidy_up();
  return 0;
}

}  // namespace

namespace {

// The end of a kernel thread, which only the C library knows of, is asked for again and again while
// others run.
int join_kernel_thread(pthread_t id, void** result, deadline until) noexcept {
  core::wait_info what;
  what.remote = what.interruptible = true;
  for (core::nanoseconds pause = 100'000;; pause = pause < 10'000'000 ? pause * 2 : pause) {
    int r = real.pthread_tryjoin_np(id, result);
    core::nanoseconds t = core::now();
    if (r != EBUSY) return r;
    if (until.passed(t)) return ETIMEDOUT;
    if (wait_parked(what, deadline{std::min(until.at, t + pause)}, on_signal::restart) ==
        -ECANCELED)
      act_on_cancel();
  }
}

}  // namespace

int pthread_join(pthread_t id, void** result) {
  if (!thread_of(id)) {
    if (!cooperative()) return real.pthread_join(id, result);
    return join_kernel_thread(id, result, deadline::never());
  }
  if (cancel_due()) act_on_cancel();
  deadline never = deadline::never();
  return join(id, result, &never);
}

int pthread_tryjoin_np(pthread_t id, void** result) {
  if (!thread_of(id)) return real.pthread_tryjoin_np(id, result);
  return join(id, result, nullptr);
}

int pthread_clockjoin_np(pthread_t id, void** result, clockid_t clock, const timespec* until) {
  if (!thread_of(id) && !cooperative()) return real.pthread_clockjoin_np(id, result, clock, until);
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) return EINVAL;
  if (until && (until->tv_nsec < 0 || until->tv_nsec >= 1'000'000'000)) return EINVAL;
  if (cancel_due()) act_on_cancel();
  deadline d = until ? futex::absolute(clock, *until) : deadline::never();
  return thread_of(id) ? join(id, result, &d) : join_kernel_thread(id, result, d);
}

int pthread_timedjoin_np(pthread_t id, void** result, const timespec* until) {
  return posix::pthread_clockjoin_np(id, result, CLOCK_REALTIME, until);
}

int pthread_detach(pthread_t id) {
  thread* t = thread_of(id);
  if (!t) return real.pthread_detach(id);
  std::uint32_t life = t->life.load(std::memory_order_relaxed);
  do {
    if (life & thread::joined) return ESRCH;
    if (life & thread::detached) return EINVAL;
  } while (
      !t->life.compare_exchange_weak(life, life | thread::detached, std::memory_order_acq_rel));
  if (life & thread::ended) recycle(t), tidy_up();
  return 0;
}

void pthread_exit(void* result) {
  if (thread* t = this_thread) {
    t->result = result;
    t->exits = true;
  }
  real.pthread_exit(result);
  __builtin_unreachable();
}

void run_main(int (*main)(int, char**, char**), int argc, char** argv, char** envp) noexcept {
  core::at_fork(nullptr, after_fork);
  // Nothing comes between main and exit, as in the C library: Free Pascal's programs end by a jump
  // to where main returns to, on whatever stack they are.
  run_to_end(&main_thread, [&] { exit(main(argc, argv, envp)); });
  // The main thread has ended by itself; the process does with its last thread.
  my_hub().thread_ends(my_hub().storage);
  main_thread.life.fetch_or(thread::ended);
  futex::wake(&main_thread.life, INT32_MAX);
  one_less();
  while (std::uint32_t n = living.load())
    futex::wait(&living, n, deadline::never(), futex::ends::by_wake);
  exit(0);
}

}  // namespace tendril::posix
