// The fiber: a context with a stack, a parent, and what travels with it from switch to switch.
// Everything here belongs to one kernel thread, the fiber's home; only the reference count is
// shared.
#pragma once

#include <tendril/detail/core.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/list.hpp"
#include "fiber/context.hpp"
#include "fiber/stack.hpp"
#include "thread/tls.hpp"

namespace tendril::core {

struct fiber_home;

// What a short task's life touches stands first.
struct fiber : fiber_head, list_node {  // in fiber_home::fibers
  fiber_kind kind = fiber_kind::explicit_switch;
  bool in_trace = false;  // runs the trace callback, whose own switches are not traced
  bool lost = false;      // belongs to the parent process of a fork
  bool on_stack = false;  // lies on its stack, at the top
  // lies where its maker wants it, who is told by body::destroy that it is gone
  bool placed = false;
  // a task: lives, with or without handles, from start() until it was settled
  bool started = false;
  bool has_eh = false;  // `eh` is to be given back to the run-time when it runs again
  bool pooled = false;  // lies on a stack of the default size
  bool named = false;
  bool as_new = false;  // an ended task that waits in entry() to be another, see begin_again()
  int inside = 0;       // fiber_home::inside, while it is suspended
  std::atomic<std::uint32_t> refs{1};
  std::uint32_t payload_size = 0;
  const body* what = nullptr;
  // Where to go when it has finished: the living ancestor, or the hub's next fiber.
  fiber* (*successor)(fiber* self) noexcept = nullptr;
  fiber* next_doomed = nullptr;
  stack stk;

  [[no_unique_address]] context ctx;
  message* letter = nullptr;  // what it finds when it runs again; null unless it is about to
  fiber* parent = nullptr;    // holds a reference
  // The stack is somebody else's, who learns by this that it was left for good. The fiber itself
  // may be held longer.
  void (*left_stack)(fiber*) noexcept = nullptr;

  // the FILE that its program's stdio call is about, see posix/descriptors/stdio.cpp
  const void* stream = nullptr;

  // Another kernel thread's unpark, on its way to the home hub.
  std::atomic<bool> in_inbox{false};
  fiber* next_in_inbox = nullptr;

  std::size_t stack_size = 0;
  const void* family = nullptr;  // of the first value that it is given
  eh_state eh;
  char name[24] = {};
};
static_assert(sizeof(fiber) <= payload_offset);

// What is left of a fiber that had memory of its own.
struct left_memory {
  left_memory* next;
  std::size_t payload_size;
};

// What the fibers of one kernel thread share; the hub derives from it.
struct fiber_home : home_head {
  fiber main;
  list<fiber> fibers;          // every fiber that has a stack, and main
  std::size_t unfinished = 0;  // fibers that were started and have not finished, main not counted
  stack_pool stacks;
  // Ended tasks' stacks of the default size, with what is left of the task on each: the next task
  // takes the last one.
  fiber* idle = nullptr;
  std::atomic<left_memory*> left{nullptr};  // of fibers that have ended, for the next one
  thread_storage storage;                   // the kernel thread's own
  signal_masks masks;                       // of its threads, once there are several
  bool several_threads = false;
  // the kernel thread's time, as other kernel threads may read it
  struct {
    std::atomic<unsigned> changes{0};                  // odd: it changes now
    std::atomic<nanoseconds> counted{0};               // what of it its threads have been told
    std::atomic<const thread_storage*> user{nullptr};  // whose the rest is
  } cpu;
  tracer trace = nullptr;
  void* trace_context = nullptr;
  void (*drop_trace_context)(void*) noexcept = nullptr;
  // a std::exception_ptr*, for the next explicit switch that returns
  void* trace_failure = nullptr;
  bool watches_overflow = false;
  void* signal_stack = nullptr;  // ours, see stack_overflow.hpp
  int tid = 0;
  int pid = 0;
  std::uint64_t last_id = 0;  // of the fibers made here
  // fibers made here and not destroyed yet, until it is closed
  std::size_t living = 0;
  bool closed = false;  // see close_home()
  // main, which its kernel thread holds; then every fiber made there, too
  std::atomic<std::size_t> users{1};
  void (*destroy)(fiber_home*) noexcept = nullptr;
  // Makes room in the ready queue for one more fiber; false: no memory.
  bool (*make_room)(fiber_home*) noexcept = nullptr;
  std::size_t room = 0;                                              // how many it has room for
  bool has_room() const noexcept { return unfinished + 2 <= room; }  // for one more, and main
  // Fibers whose last handle went away where they could not be unwound (on another kernel thread,
  // inside the hub), each with that last reference. &main: the kernel thread has ended, nobody will
  // look any more.
  std::atomic<fiber*> doomed{nullptr};

  fiber_home() noexcept;
  ~fiber_home() = default;
};

// Makes this kernel thread's home (the hub layer provides it). The first: null, the second: the
// process ends, if there is no memory.
fiber_home* try_to_make_home() noexcept;
fiber_home* make_home() noexcept;

inline fiber* ensure_current() noexcept {
  if (!current) make_home();
  return current;
}

// As fiber_new(), in the maker's memory: fiber_size(payload_size) bytes, aligned to 64.
constexpr std::size_t fiber_size(std::size_t payload_size) noexcept {
  return payload_offset + payload_size;
}
fiber* fiber_new_at(void* memory, std::size_t payload_size, const body& b,
                    const fiber_options& o) noexcept;

// A fresh fiber is about to run for the first time: gets a stack and a context, unless it has them;
// false: no memory.
bool prepare(fiber* f) noexcept;
// The end of that.
[[gnu::always_inline]] inline void prepared(fiber* f) noexcept {
  fiber_home* home = f->home;
  home->fibers.push_back(*f);
  home->unfinished++;
  f->unusual = f->unusual || home->unusual;
}
// What a switch finds out afterwards, and rarely: the fiber that it came from has ended or is held
// by nobody, or somebody traces.
void look_back(fiber* from, fiber* self) noexcept;

// Whether a switch to another thread has but the thread pointer to set.
[[gnu::always_inline]] inline bool carries_plainly(const thread_storage& from,
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
// What the kernel thread has used of the processor since this was last called has been the running
// thread's; `next` runs from now on.
void count_cpu_time(thread_storage& running, thread_storage& next, fiber_home& home) noexcept;
// What a thread has used, asked on another kernel thread.
nanoseconds cpu_time_elsewhere(const thread_storage& t, const fiber_home& home,
                               clockid_t homes_clock) noexcept;

// The bare switch, in three parts. The processor predicts a return by who called last, which after
// a jump was another fiber: each return costs more than the switch. So the jump is the last thing
// that a function of the seam does (see core::arrival), or else all is inlined into one that
// returns straight to the headers.
//
// First: `self`, which is running and was given its new state, leaves the kernel thread to `to`.
[[gnu::always_inline]] inline void enter(fiber* self, fiber* to) noexcept {
  thread_storage* there = to->storage;
  thread_storage* here = self->storage;
  if (there != here) {
    here->float_flags = arch::float_flags();
    if (carries_plainly(*here, *there)) arch::set_thread_pointer(there->pointer, true);
    else carry_all(here, there, self->home);
  } else if (there->signals.due) [[unlikely]] {
    self->home->handlers_are_due = true;
  }
  to->state = fiber_status::running;
  *there->current = to;
}
[[gnu::always_inline]] inline void depart(fiber* self, fiber* to) noexcept {
  if (!self->exceptions->none()) [[unlikely]] {
    self->eh = *self->exceptions;
    self->has_eh = true;
    *self->exceptions = {};
  }
  self->inside = self->home->inside;
  enter(self, to);
}
// Who left by that wants it looked after.
inline void* with_look_back(fiber* self) noexcept {
  return reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(self) | look_back_bit);
}
inline fiber* who_left(void* cargo) noexcept {
  return reinterpret_cast<fiber*>(reinterpret_cast<std::uintptr_t>(cargo) & ~look_back_bit);
}
// Third, after the jump: what became of the fiber that control came from. Afterwards settle() is
// due (at once, unless there is a message of that fiber to read first).
[[gnu::always_inline]] inline void arrive(fiber* self, void* context, void* cargo) noexcept {
  fiber* from = who_left(cargo);
  from->sp = context;
  if (self->has_eh) [[unlikely]] {
    *self->exceptions = self->eh;
    self->has_eh = false;
  }
  if (!is_plain(cargo)) look_back(from, self);
  self->home->inside = self->inside;
  self->inside = 0;
}
[[gnu::always_inline]] inline void switch_to(fiber* self, fiber* to, bool ending = false) noexcept {
  depart(self, to);
  auto arrived = jump(self->ctx, to->ctx, to->sp, with_look_back(self), ending);
  arrive(self, arrived.context, arrived.from);
}
// The same between fibers of which neither expects a message, where `self` goes on living.
[[gnu::always_inline]] inline void take_turns(fiber* self, fiber* to) noexcept {
  depart(self, to);
  auto arrived =
      jump(self->ctx, to->ctx, to->sp, self->unusual ? with_look_back(self) : self, false);
  arrive(self, arrived.context, arrived.from);
}
// Second, where it is a function's last act: the jump itself, returning what the seam returns. (The
// compiler makes a tail call only if nothing stands between.) Sanitizers want to hear of it before
// the function returns.
#if !defined(TENDRIL_ASAN) && !defined(TENDRIL_TSAN)
arrival jump_last(void* to, void* self) noexcept __asm__(TENDRIL_JUMP);
inline constexpr bool sanitized = false;
#else
// not inline: `current` is another thread's now
[[gnu::noinline]] inline arrival jump_last(void* to, void* cargo) noexcept {
  fiber* self = who_left(cargo);
  return jump(self->ctx, current->ctx, to, cargo, false);
}
inline constexpr bool sanitized = true;
#endif
// Whether `self` may wait and leave by a plain arrival's way: see core::switches_plainly.
[[gnu::always_inline]] inline bool leaves_plainly(const fiber* self,
                                                  const fiber_home* home) noexcept {
  return !self->unusual && home->inside == 0 && self->exceptions->none();
}
// What a function that would have switched says instead.
[[gnu::noinline, gnu::cold]] inline arrival no_switch(std::uintptr_t why) noexcept {
  return {reinterpret_cast<void*>(why), reinterpret_cast<void*>(look_back_bit)};
}
// Unwinds a fiber suspended in an explicit switch although somebody still holds it; one that does
// not end is marked an orphan, so that it is not tried twice.
void unwind_held(fiber* f) noexcept;
// Gives the stacks that wait for the next task back to the pool, at most so many. Returns whether
// there are more.
bool give_back_idle(fiber_home* home, std::size_t most) noexcept;
void free_left_memory(fiber_home* home) noexcept;
// Drops the references of the doomed list.
void adopt_doomed(fiber_home* home) noexcept;
// The home's kernel thread ends: from now on a last handle may go away anywhere.
void close_home(fiber_home* home) noexcept;
// The kernel thread, or a fiber, is done with its home; the memory goes with the last one.
void leave_home(fiber_home* home) noexcept;

}  // namespace tendril::core
