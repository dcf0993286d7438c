// The fiber: a context with a stack, a parent, and what travels with it from switch to switch.
// Everything here belongs to one kernel thread, the fiber's home, except the reference count and
// what another kernel thread needs to wake the fiber. A task of the C++ API may get another home
// before it begins (hub::adopt), a thread of the program also afterwards (scheduler/crew.hpp).
#pragma once

#include <tendril/detail/core.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/list.hpp"
#include "fiber/context.hpp"
#include "fiber/home_now.hpp"
#include "fiber/stack.hpp"
#include "thread/tls.hpp"

namespace tendril::core {

struct fiber_home;

// Whether a sanitizer must be informed of each switch.
#if defined(TENDRIL_ASAN) || defined(TENDRIL_TSAN)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

// The members that a short task uses come first.
struct fiber : fiber_head, list_node {  // in fiber_home::fibers
  fiber_kind kind = fiber_kind::explicit_switch;
  bool in_trace = false;  // runs the trace callback, whose own switches are not traced
  bool lost = false;      // belongs to the parent process of a fork
  bool on_stack = false;  // lies at the top of its own stack
  // lies in memory of its maker, which is informed by body::destroy that the fiber is gone
  bool placed = false;
  // a task that has been started and not reaped yet: it lives on with or without handles
  bool started = false;
  bool has_eh = false;  // `eh` must be restored to the C++ run-time when it runs again
  bool pooled = false;  // lies on a stack of the default size
  bool named = false;
  // an ended task that waits in entry() to become another, see begin_again()
  bool recycled = false;
  // a thread on its way to another hub, in whose remote queue it is
  bool in_transit = false;
  // leaves for another hub as soon as it has been switched away from: see hub::move_to
  bool departs = false;
  std::atomic<std::uint32_t> refs{1};
  std::uint32_t payload_size = 0;
  const body* what = nullptr;
  // Returns the fiber to switch to when this one has finished: the living ancestor, or the hub's
  // next fiber.
  fiber* (*successor)(fiber* self) noexcept = nullptr;
  fiber* next_remote_release = nullptr;
  stack stk;

  [[no_unique_address]] context ctx;
  // the message that it receives when it runs again; null unless it is about to
  message* inbound_message = nullptr;
  fiber* parent = nullptr;  // holds a reference
  // Set if the stack belongs to someone else: called when the fiber has left the stack for good.
  // There may still be references to the fiber then.
  void (*left_stack)(fiber*) noexcept = nullptr;

  // the FILE of the program's stdio call that it is in, see posix/descriptors/stdio.cpp
  const void* stream = nullptr;

  // In the home hub's remote queue, or claimed for it by whoever sets this: see remote_queue.
  // Meanwhile `home` stays as it is.
  std::atomic<bool> in_remote_queue{false};
  std::atomic<bool> ends_wait{false};  // that unpark is to end an interruptible wait
  fiber* next_in_remote_queue = nullptr;

  std::size_t stack_size = 0;
  const void* value_type = nullptr;  // the type of the first value that it receives
  eh_state eh;
  char name[24] = {};

  // Between these calls the running fiber is inside the runtime, and handlers are deferred. See
  // handlers_deferred.hpp.
  void enter_runtime() noexcept {
    runtime_depth = runtime_depth + 1;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  inline void leave_runtime() noexcept;
  // Leaves it without running the handlers that are due.
  void leave_runtime_quietly() noexcept {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    runtime_depth = runtime_depth - 1;
  }
};
static_assert(sizeof(fiber) <= payload_offset);

// The memory of an ended fiber that did not lie on its stack.
struct left_memory {
  left_memory* next;
  std::size_t payload_size;
};

// What the fibers need of the hub, which is in a higher layer.
struct hub_calls {
  void (*destroy)(fiber_home*) noexcept;
  // Makes room in the run queue for one more fiber; false: no memory.
  bool (*make_room)(fiber_home*) noexcept;
  // The kernel thread makes its first fiber.
  void (*begin_fibers)(fiber_home*) noexcept;
  // core::run_handlers_due()
  void (*run_handlers_due)() noexcept;
  // A fiber with `departs` set has been switched away from.
  void (*depart)(fiber*) noexcept;
};

// What the fibers of one kernel thread share; the hub derives from it.
struct fiber_home : home_head {
  fiber main;
  list<fiber> fibers;          // every fiber that has a stack, and main
  std::size_t unfinished = 0;  // started and not finished, except main
  stack_pool stacks;
  // Stacks of the default size of ended tasks, with what remains of the task on each: the next task
  // takes the last one.
  fiber* idle = nullptr;
  std::atomic<left_memory*> left{nullptr};  // of ended fibers, for the next one
  thread_storage storage;                   // the kernel thread's own
  signal_masks masks;                       // of its threads, once there are several
  bool several_threads = false;
  // 1: `main` is one of the program's threads. 0: it is a carrier's, which runs none of the
  // program's code, or in a forked child it has stayed in the parent.
  unsigned native_threads = 1;
  // the kernel thread's processor time, readable by other kernel threads
  struct {
    std::atomic<unsigned> changes{0};  // odd: being changed
    // how much of it has been attributed to threads
    std::atomic<nanoseconds> counted{0};
    std::atomic<const thread_storage*> user{nullptr};  // the thread that is using the rest
  } cpu;
  tracer trace = nullptr;
  void* trace_context = nullptr;
  void (*drop_trace_context)(void*) noexcept = nullptr;
  // a std::exception_ptr*, for the next explicit switch that returns
  void* trace_failure = nullptr;
  bool has_begun = false;  // see hub_calls::begin_fibers
  // the C++ API has made fibers here, which stay with the thread whose storage they share
  bool has_own_fibers = false;
  void* signal_stack = nullptr;  // ours, see signal_stack.hpp
  int tid = 0;
  int pid = 0;
  std::uint64_t last_id = 0;  // of the fibers made here
  // fibers made here and not destroyed yet, until the home is closed
  std::size_t living = 0;
  bool closed = false;  // see close_home()
  // main, which the kernel thread holds; each helper job; once closed, each fiber made here, too
  std::atomic<std::size_t> users{1};
  const hub_calls* calls = nullptr;
  // how many fibers the run queue has room for
  std::size_t room = 0;
  bool has_room() const noexcept { return unfinished + 2 <= room; }  // for one more, and main
  bool handlers_due() const noexcept { return handlers_are_due; }
  void look_for_handlers() noexcept { handlers_are_due = true; }
  // Fibers whose last reference was dropped where they could not be unwound (on another kernel
  // thread, inside the hub), each with that reference. &main: the kernel thread has ended and no
  // longer looks here.
  std::atomic<fiber*> remote_releases{nullptr};

  fiber_home() noexcept;
  ~fiber_home() = default;
};

inline void fiber::leave_runtime() noexcept {
  leave_runtime_quietly();
  if (runtime_depth == 0 && home->handlers_due()) [[unlikely]]
    home->calls->run_handlers_due();
}

// Ids are handed out to kernel threads in blocks: one shared counter would cost more than the rest
// of making a fiber.
inline constexpr std::uint64_t ids_per_block = 1024;
[[gnu::visibility("hidden")]] extern std::atomic<std::uint64_t> next_block;
inline std::uint64_t next_id(fiber_home& home) noexcept {
  if (home.last_id % ids_per_block == 0)
    home.last_id = next_block.fetch_add(1, std::memory_order_relaxed) * ids_per_block;
  return ++home.last_id;
}

// The state of fibers whose storage is unknown to the C++ run-time, or which are alone on it.
[[gnu::visibility("hidden")]] extern eh_state no_exceptions;

// Whether this code runs on that home's kernel thread, in a fiber that may switch, and not in the
// hub.
inline bool at_home(const fiber_home* home) noexcept {
  return current && current->home == home && current->state == fiber_status::running;
}

inline void set_orphan(fiber* f, bool orphan) noexcept {
  f->orphan = orphan;
  update_needs_slow_path(*f);
}

// Control has come from that fiber: records it for reap() if it needs that.
inline void left_behind(fiber* from) noexcept {
  if (from->state == fiber_status::finished ||
      (from->orphan && from->state == fiber_status::switched)) {
    from->home->to_reap = from;
  }
}

}  // namespace tendril::core
