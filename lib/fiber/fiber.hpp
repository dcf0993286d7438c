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

// Whether a sanitizer wants to hear of each switch.
#if defined(TENDRIL_ASAN) || defined(TENDRIL_TSAN)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

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
  bool recycled = false;  // an ended task that waits in entry() to be another, see begin_again()
  int runtime_depth = 0;  // fiber_home::runtime_depth, while it is suspended
  std::atomic<std::uint32_t> refs{1};
  std::uint32_t payload_size = 0;
  const body* what = nullptr;
  // Where to go when it has finished: the living ancestor, or the hub's next fiber.
  fiber* (*successor)(fiber* self) noexcept = nullptr;
  fiber* next_remote_release = nullptr;
  stack stk;

  [[no_unique_address]] context ctx;
  // what it finds when it runs again; null unless it is about to
  message* inbound_message = nullptr;
  fiber* parent = nullptr;  // holds a reference
  // The stack is somebody else's, who learns by this that it was left for good. The fiber itself
  // may be held longer.
  void (*left_stack)(fiber*) noexcept = nullptr;

  // the FILE that its program's stdio call is about, see posix/descriptors/stdio.cpp
  const void* stream = nullptr;

  // Another kernel thread's unpark, on its way to the home hub.
  std::atomic<bool> in_inbox{false};
  fiber* next_in_inbox = nullptr;

  std::size_t stack_size = 0;
  const void* value_type = nullptr;  // of the first value that it is given
  eh_state eh;
  char name[24] = {};
};
static_assert(sizeof(fiber) <= payload_offset);

// What is left of a fiber that had memory of its own.
struct left_memory {
  left_memory* next;
  std::size_t payload_size;
};

// What the fibers have the hub do, which stands above them.
struct hub_calls {
  void (*destroy)(fiber_home*) noexcept;
  // Makes room in the run queue for one more fiber; false: no memory.
  bool (*make_room)(fiber_home*) noexcept;
  // The kernel thread makes its first fiber.
  void (*begin_fibers)(fiber_home*) noexcept;
  // As core::run_handlers_due().
  void (*run_handlers_due)() noexcept;
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
  bool has_begun = false;        // see hub_calls::begin_fibers
  void* signal_stack = nullptr;  // ours, see signal_stack.hpp
  int tid = 0;
  int pid = 0;
  std::uint64_t last_id = 0;  // of the fibers made here
  // fibers made here and not destroyed yet, until it is closed
  std::size_t living = 0;
  bool closed = false;  // see close_home()
  // main, which its kernel thread holds; then every fiber made there, too
  std::atomic<std::size_t> users{1};
  const hub_calls* calls = nullptr;
  std::size_t room = 0;                                              // how many it has room for
  bool has_room() const noexcept { return unfinished + 2 <= room; }  // for one more, and main
  // Between the two the running fiber is inside the runtime: handlers wait. See
  // handlers_deferred.hpp.
  void enter() noexcept {
    runtime_depth = runtime_depth + 1;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  void leave() noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    runtime_depth = runtime_depth - 1;
    if (runtime_depth == 0 && handlers_due()) [[unlikely]]
      calls->run_handlers_due();
  }
  bool handlers_due() const noexcept { return handlers_are_due; }
  void look_for_handlers() noexcept { handlers_are_due = true; }
  // Fibers whose last handle went away where they could not be unwound (on another kernel thread,
  // inside the hub), each with that last reference. &main: the kernel thread has ended, nobody will
  // look any more.
  std::atomic<fiber*> remote_releases{nullptr};

  fiber_home() noexcept;
  ~fiber_home() = default;
};

// Numbers are handed out to kernel threads in blocks: what all share costs more than the rest of
// making a fiber.
inline constexpr std::uint64_t ids_per_block = 1024;
[[gnu::visibility("hidden")]] extern std::atomic<std::uint64_t> next_block;
inline std::uint64_t next_id(fiber_home& home) noexcept {
  if (home.last_id % ids_per_block == 0)
    home.last_id = next_block.fetch_add(1, std::memory_order_relaxed) * ids_per_block;
  return ++home.last_id;
}

// Of those whose storage knows no C++ run-time, or is all their own.
[[gnu::visibility("hidden")]] extern eh_state no_exceptions;

// Whether this code runs on that home's kernel thread, in a fiber that may switch: not in the hub.
inline bool at_home(const fiber_home* home) noexcept {
  return current && current->home == home && current->state == fiber_status::running;
}

inline void set_orphan(fiber* f, bool orphan) noexcept {
  f->orphan = orphan;
  update_needs_slow_path(*f);
}

// Control has come from that fiber: whether it is to be looked after, see reap().
inline void left_behind(fiber* from) noexcept {
  if (from->state == fiber_status::finished ||
      (from->orphan && from->state == fiber_status::switched)) {
    from->home->to_reap = from;
  }
}

}  // namespace tendril::core
