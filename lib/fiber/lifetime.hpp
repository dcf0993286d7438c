// A fiber's life: made, prepared to run, ended, settled; its memory waits for the next one.
#pragma once

#include "fiber/fiber.hpp"

namespace tendril::core {

// A fiber of that creator's kernel thread, as fiber_new(); a task's, as task_new().
fiber* make_fiber(fiber* creator, std::size_t payload_size, const body& b,
                  const fiber_options& o) noexcept;
fiber* make_task(fiber* creator, std::size_t payload_size, const body& b, std::size_t stack_size,
                 const char* name) noexcept;
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
  f->needs_slow_path = f->needs_slow_path || home->needs_slow_path;
}
// Unwinds a fiber suspended in an explicit switch although somebody still holds it; one that does
// not end is marked an orphan, so that it is not tried twice.
void unwind_held(fiber* f) noexcept;
// Gives the stacks that wait for the next task back to the pool, at most so many. Returns whether
// there are more.
bool give_back_idle(fiber_home* home, std::size_t most) noexcept;
void free_left_memory(fiber_home* home) noexcept;
// Drops the references of the remote_releases list.
void drop_remote_releases(fiber_home* home) noexcept;
// The home's kernel thread ends: from now on a last handle may go away anywhere.
void close_home(fiber_home* home) noexcept;
// The kernel thread, or a fiber, is done with its home; the memory goes with the last one.
void leave_home(fiber_home* home) noexcept;

// Takes the last of the idle ones.
[[gnu::always_inline]] inline void take_idle(fiber_home* home) noexcept {
  fiber* next = home->idle->next_remote_release;
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
  f->recycled = false;
  arch::inherit_float_control(f->sp);  // the task before may have changed its own
}
// An ended task becomes a new one, as plain_task_new(); null: none waits that would do.
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
