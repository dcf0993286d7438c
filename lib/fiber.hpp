// The fiber: a context with a stack, a parent, and what travels with it from switch to switch.
// Everything here belongs to one kernel thread, the fiber's home; only the reference count is shared.
#pragma once

#include <tendril/detail/core.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "context.hpp"
#include "list.hpp"
#include "stack.hpp"

namespace tendril::core {

struct fiber_home;

// The C++ run-time's per-thread exception state (Itanium C++ ABI 2.2.2): which exceptions are being handled,
// and how many thrown ones are not caught yet. Swapped at a switch, so that each fiber has its own.
struct eh_state {
  void* caught = nullptr;
  unsigned int uncaught = 0;
};

// A fiber's state. Its own kernel thread writes it; any may ask whether a fiber has ended, and then read what it
// left behind.
class status_cell {
 public:
  operator fiber_status() const noexcept { return value_.load(std::memory_order_acquire); }
  void operator=(fiber_status s) noexcept { value_.store(s, std::memory_order_release); }

 private:
  std::atomic<fiber_status> value_{fiber_status::fresh};
};

struct fiber : list_node {  // in fiber_home::fibers
  context ctx;
  fiber_home* home = nullptr;
  status_cell state;
  fiber_kind kind = fiber_kind::explicit_switch;
  bool orphan = false;     // lost its last handle while it ran: unwound as soon as it is suspended
  bool in_trace = false;   // runs the trace callback, whose own switches are not traced
  bool lost = false;       // belongs to the parent process of a fork
  eh_state eh;
  message* letter = nullptr;      // what it finds when it runs again; null unless it is about to
  const void* awaits = nullptr;   // the family of the value it waits for in an explicit switch
  fiber* parent = nullptr;        // holds a reference
  const body* what = nullptr;
  stack stk;
  // Where to go when it has finished: the living ancestor, or the hub's next fiber.
  fiber* (*successor)(fiber* self) noexcept = nullptr;

  // What it waits for while it is parked, and how that ended.
  const wait_info* waiting = nullptr;
  wake woken = wake::unparked;
  void* pending = nullptr;  // a std::exception_ptr*, see core::interrupt

  // How many signal handlers had run (hub::signals, hub::signals_norestart) when its current call began.
  std::uint32_t signals_before = 0;
  std::uint32_t norestart_before = 0;
  bool masked = false;  // waits with a signal mask of its own

  // Another kernel thread's unpark, on its way to the home hub.
  std::atomic<bool> in_inbox{false};
  fiber* next_in_inbox = nullptr;
  fiber* next_doomed = nullptr;

  std::atomic<std::uint32_t> refs{1};
  std::size_t stack_size = 0;
  std::uint64_t id = 0;
  char name[24] = {};

  void* payload() noexcept { return reinterpret_cast<char*>(this) + payload_offset(); }
  static constexpr std::size_t payload_offset() noexcept { return (sizeof(fiber) + 15) & ~std::size_t(15); }
};

// What the fibers of one kernel thread share; the hub derives from it.
struct fiber_home {
  fiber main;
  list<fiber> fibers;         // every fiber that has a stack, and main
  std::size_t unfinished = 0; // fibers that were started and have not finished, main not counted
  stack_pool stacks;
  eh_state* eh_globals = nullptr;  // this kernel thread's; null until a C++ program tells
  tracer trace = nullptr;
  void* trace_context = nullptr;
  void (*drop_trace_context)(void*) noexcept = nullptr;
  void* trace_failure = nullptr;  // a std::exception_ptr*, for the next explicit switch that returns
  bool watches_overflow = false;
  void* signal_stack = nullptr;  // ours, see overflow.hpp
  int tid = 0;
  int pid = 0;
  // How deep the running fiber is in the runtime: signal handlers are put off meanwhile (see handlers_wait).
  volatile int inside = 0;
  fiber* leftover = nullptr;            // finished, or suspended and held by nobody: see settle()
  std::atomic<std::size_t> users{1};    // main, which its kernel thread holds, and every fiber made there
  void (*destroy)(fiber_home*) noexcept = nullptr;
  // Makes room in the ready queue for one more fiber; false: no memory.
  bool (*make_room)(fiber_home*) noexcept = nullptr;
  // Fibers whose last handle went away where they could not be unwound (on another kernel thread, inside the
  // hub), each with that last reference. &main: the kernel thread has ended, nobody will look any more.
  std::atomic<fiber*> doomed{nullptr};

  fiber_home() noexcept;
  ~fiber_home() = default;
};

// The one variable with per-thread meaning: who is running. Null on kernel threads without fibers.
extern __thread fiber* current __attribute__((tls_model("initial-exec")));

// Makes this kernel thread's home (the hub layer provides it).
fiber_home* make_home() noexcept;

inline fiber* ensure_current() noexcept {
  if (!current) make_home();
  return current;
}

// Gives a fresh fiber its stack; false: no memory.
bool prepare(fiber* f) noexcept;
// What a switch finds out afterwards, and rarely: the fiber that it came from has ended or is held by nobody, or
// somebody traces.
void look_back(fiber* from, fiber* self) noexcept;

// The bare switch from `self`, which is running and was given its new state, to `to`. When it returns, settle()
// is due (at once, unless there is a message of the other fiber to read first).
//
// Inlined into the few functions that switch, which return straight to the headers: each return after a switch is
// one that the processor had predicted for another fiber, and costs more than the switch.
[[gnu::always_inline]] inline void switch_to(fiber* self, fiber* to, bool ending = false) noexcept {
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
  if (from->state == fiber_status::finished || from->orphan || home->trace) [[unlikely]] look_back(from, self);
}
// Unwinds a fiber suspended in an explicit switch although somebody still holds it; one that does not end is
// marked an orphan, so that it is not tried twice.
void unwind_held(fiber* f) noexcept;
// Drops the references of the doomed list.
void adopt_doomed(fiber_home* home) noexcept;
// The home's kernel thread ends: from now on a last handle may go away anywhere.
void close_home(fiber_home* home) noexcept;
// The kernel thread, or a fiber, is done with its home; the memory goes with the last one.
void leave_home(fiber_home* home) noexcept;

}  // namespace tendril::core
