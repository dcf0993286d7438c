// The seam between the public headers and lib/: not for use in programs.
//
// lib/ is written without exceptions and without the C++ run-time library, so that the preload shim brings
// neither into a C program. So it only reports; the headers, compiled into the program, throw.
#pragma once

#include <cstddef>
#include <cstdint>

#include "export.hpp"

namespace tendril::core {

struct fiber;  // lib/fiber.hpp

// Why a parked fiber runs again.
enum class wake : std::uint8_t {
  unparked,     // somebody called unpark
  timeout,      // the deadline passed
  interrupted,  // an exception waits in fiber_take_pending (kill, time-out)
  closed,       // the descriptor was closed
  signal,       // a signal handler ran
  deadlock,     // nothing could ever have woken it: see deadlock_report
};

// What one fiber hands to another in an explicit switch. Lives in the sender's frame or payload until read.
struct message {
  const void* family = nullptr;  // which type `value` points to
  void* value = nullptr;
  void* error = nullptr;  // a std::exception_ptr to rethrow, or null
  bool exit = false;      // fiber_exit is to be thrown
  void* instead = nullptr;  // a new std::exception_ptr of the trace callback, to rethrow in place of all that
};

// What a fiber does. `run` gets the first message and returns the last one, which must outlive the fiber's
// stack (it lives in the payload); a task returns null.
struct body {
  message* (*run)(fiber*, message* first) noexcept;
  void (*destroy)(void* payload) noexcept;
};

enum class fiber_kind : std::uint8_t { explicit_switch, task };

struct fiber_options {
  std::size_t stack_size = 0;  // 0: the default
  const char* name = nullptr;
  fiber_kind kind = fiber_kind::explicit_switch;
  const void* family = nullptr;
  void* eh_globals = nullptr;  // what __cxa_get_globals() returns on this kernel thread
};

enum class fiber_status : std::uint8_t { fresh, switched, running, parked, ready, finished };

// A new fiber with room for `payload_size` bytes at fiber_payload(); one reference; null: no memory.
TENDRIL_API fiber* fiber_new(std::size_t payload_size, const body& b, const fiber_options& o) noexcept;
TENDRIL_API void* fiber_payload(fiber* f) noexcept;
TENDRIL_API void fiber_ref(fiber* f) noexcept;
// The last reference to a suspended fiber unwinds it with fiber_exit, here if this is its kernel thread.
TENDRIL_API void fiber_unref(fiber* f) noexcept;
// The running fiber; on a kernel thread that never had one, its main fiber is made.
TENDRIL_API fiber* fiber_current() noexcept;
TENDRIL_API bool fiber_on_this_thread(const fiber* f) noexcept;
TENDRIL_API fiber_status fiber_state(const fiber* f) noexcept;
TENDRIL_API const void* fiber_awaits(const fiber* f) noexcept;
TENDRIL_API bool fiber_is_main(const fiber* f) noexcept;
TENDRIL_API fiber* fiber_parent(const fiber* f) noexcept;
TENDRIL_API void fiber_set_parent(fiber* f, fiber* parent) noexcept;
// The first ancestor (or f itself) that is not finished.
TENDRIL_API fiber* fiber_living(fiber* f) noexcept;
TENDRIL_API const char* fiber_name(const fiber* f) noexcept;
TENDRIL_API void fiber_set_name(fiber* f, const char* name) noexcept;
TENDRIL_API std::uint64_t fiber_id(const fiber* f) noexcept;

// Runs `to`, which is fresh or suspended by a switch of its own, until somebody switches back here; returns
// their message, null if there is no memory for a stack. The message lives in the sender: read it, then settle().
TENDRIL_API message* fiber_switch(fiber* to, message* m, const void* awaits) noexcept;
// Ends the fiber that control came from if it has finished, and unwinds it if nobody holds it any more. Called
// by whoever was switched to (a fresh fiber too) as soon as the message was read.
TENDRIL_API void settle() noexcept;

// Called after each switch, on the fiber that was switched to. Returns null, or a new std::exception_ptr: that
// ends the tracing and comes out of the next explicit switch.
using tracer = void* (*)(void* context, fiber* from, fiber* to, bool thrown) noexcept;
// `drop` is called when the context is no longer needed, perhaps while the tracer runs.
TENDRIL_API void set_tracer(tracer t, void* context, void (*drop)(void* context) noexcept) noexcept;
TENDRIL_API void* tracer_context() noexcept;

// --- the hub ---

// What a parked fiber waits for, for reports and for deadlock detection.
enum class wait_kind : std::uint8_t {
  sleep, task, descriptor, descriptors, child, helper, signal, lock, event, queue, other,
};
struct wait_info {
  wait_kind kind = wait_kind::other;
  bool remote = false;         // another kernel thread, or the system, may end this wait
  bool interruptible = false;  // a signal handler ends it
  bool uninterruptible = false;  // kill() waits until it has ended by itself
  bool for_signal = false;     // waits for a signal handler to run: any fiber, not only the main one
  int fd = -1;
  const void* target = nullptr;
};

// Suspends the running fiber until unpark(), or until `deadline` (CLOCK_MONOTONIC nanoseconds).
// May return `unparked` without cause: callers check what they wait for and park again.
TENDRIL_API wake park(std::int64_t deadline, const wait_info& what) noexcept;
// Makes a parked fiber runnable, from any kernel thread. A fiber that is not parked is left alone,
// unless it belongs to another kernel thread, whose hub then looks.
TENDRIL_API void unpark(fiber* f) noexcept;
// Lets the other runnable fibers run once. Returns interrupted, or unparked.
TENDRIL_API wake yield() noexcept;
// Puts a fresh task into the ready queue; the hub holds a reference until it is finished. False: no memory.
TENDRIL_API bool start(fiber* task) noexcept;
// Leaves an error (a new std::exception_ptr) for f to throw at its next cancellation point and wakes it if it
// is parked. Returns the error that was still waiting there, for the caller to delete.
TENDRIL_API void* interrupt(fiber* f, void* error) noexcept;
TENDRIL_API void* fiber_take_pending(fiber* f) noexcept;
TENDRIL_API bool fiber_has_pending(const fiber* f) noexcept;
TENDRIL_API std::int64_t now_ns() noexcept;
// Who waits for what on this kernel thread, one line each; writes at most n bytes and a final zero. `mine` is
// what the running fiber was waiting for, if anything.
TENDRIL_API std::size_t wait_report(char* out, std::size_t n, const wait_info* mine = nullptr) noexcept;
// Called for each unfinished task when its kernel thread ends: must leave an interrupt in it.
using reaper = void (*)(fiber*) noexcept;
TENDRIL_API void set_reaper(reaper r) noexcept;
[[noreturn]] TENDRIL_API void fail(const char* what) noexcept;

}  // namespace tendril::core
