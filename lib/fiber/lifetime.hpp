// A fiber's life: made, prepared to run, ended, reaped; its memory waits for the next fiber.
#pragma once

#include "fiber/fiber.hpp"

namespace tendril::core {

// Like fiber_new() and task_new(), for a fiber of that creator's kernel thread.
fiber* make_fiber(fiber* creator, std::size_t payload_size, const body& b,
                  const fiber_options& o) noexcept;
fiber* make_task(fiber* creator, std::size_t payload_size, const body& b, std::size_t stack_size,
                 const char* name) noexcept;
// Like fiber_new(), but in the caller's memory: fiber_size(payload_size) bytes, aligned to 64.
constexpr std::size_t fiber_size(std::size_t payload_size) noexcept {
  return payload_offset + payload_size;
}
fiber* fiber_new_at(void* memory, std::size_t payload_size, const body& b,
                    const fiber_options& o) noexcept;

// Lets a fiber that has not begun use the other one's exceptions: it is to run on its kernel
// thread, which is the calling one.
void share_exceptions(fiber* f, fiber* with) noexcept;

// Prepares a fresh fiber for its first run: gives it a stack and a context unless it has them.
// Returns false if there is no memory.
bool prepare(fiber* f) noexcept;
// Makes room for one more fiber in the home; part of prepare(). Returns false if there is no
// memory.
bool make_room(fiber_home* home) noexcept;
// The last step of prepare().
[[gnu::always_inline]] inline void prepared(fiber* f) noexcept {
  fiber_home* home = f->home;
  home->fibers.push_back(*f);
  home->unfinished++;
  f->needs_slow_path = f->needs_slow_path || home->needs_slow_path;
}
// Unwinds a fiber suspended in an explicit switch although there are handles to it. If it does not
// end, it is marked as an orphan, so that this is not tried twice.
void unwind_held(fiber* f) noexcept;
// Gives stacks that wait for the next task back to the pool, at most `most`. Returns whether there
// are more.
bool give_back_idle(fiber_home* home, std::size_t most) noexcept;
void free_left_memory(fiber_home* home) noexcept;
// Drops the references in the list of remote releases.
void drop_remote_releases(fiber_home* home) noexcept;
// The home's kernel thread ends: from now on the last reference to a fiber may be dropped anywhere.
void close_home(fiber_home* home) noexcept;
// The kernel thread, a fiber or a helper job no longer uses the home; the last one frees it.
void leave_home(fiber_home* home) noexcept;

// Takes the last of the idle stacks.
[[gnu::always_inline]] inline void take_idle(fiber_home* home) noexcept {
  fiber* next = home->idle->next_remote_release;
  home->idle = next;
  if (!next) return;
  // A thread that spawns one task often spawns another.
  const char* to_come = reinterpret_cast<const char*>(next);
  for (std::size_t at = 0; at < offsetof(fiber, stk); at += 64) __builtin_prefetch(to_come + at, 1);
  __builtin_prefetch(fiber_payload(next), 1);
  __builtin_prefetch(to_come - 64, 1);  // its stack
}

// Turns an ended task into a new one of the same thread, in place.
[[gnu::always_inline]] inline void begin_again(fiber* f, const body& b) noexcept {
  f->home->living++;
  f->refs.store(1, std::memory_order_relaxed);
  f->what = &b;
  f->id = next_id(*f->home);
  f->recycled = false;
  arch::inherit_float_control(f->sp);  // the previous task may have changed its own
}
// Turns an ended task into a new one, like plain_task_new(); null: none is suitable.
[[gnu::always_inline]] inline fiber* renew_task(fiber* creator, std::size_t payload_size,
                                                const body& b) noexcept {
  fiber* last = creator ? creator->home->idle : nullptr;
  if (!last || !last->recycled || last->payload_size != payload_size ||
      last->storage != creator->storage ||
      creator->home->remote_releases.load(std::memory_order_relaxed)) [[unlikely]] {
    return nullptr;
  }
  take_idle(last->home);
  begin_again(last, b);
  return last;
}

}  // namespace tendril::core
