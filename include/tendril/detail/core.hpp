// The seam between the public headers and lib/: not for use in programs.
//
// lib/ is written without exceptions and without the C++ run-time library, so that the preload shim
// brings neither into a C program. So it only reports; the headers, compiled into the program,
// throw.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "export.hpp"
#include "jump.hpp"

namespace tendril::core {

struct fiber;       // lib/fiber/fiber.hpp
struct fiber_home;  // lib/fiber/fiber.hpp
struct wait_info;
struct thread_storage;  // lib/thread/tls.hpp

// Why a parked fiber runs again.
enum class wake : std::uint8_t {
  unparked,     // somebody called unpark
  timeout,      // the deadline passed
  interrupted,  // an exception waits in fiber_take_pending (kill, time-out)
  closed,       // the descriptor was closed
  signal,       // a signal handler ran
  deadlock,     // nothing could ever have woken it: see deadlock_report
};

// What one fiber hands to another in an explicit switch. Lives in the sender's frame or payload
// until read.
struct message {
  const void* family = nullptr;  // which type `value` points to; null: not a value
  void* value = nullptr;
  void* error = nullptr;   // a std::exception_ptr to rethrow, or null
  bool exit = false;       // fiber_exit is to be thrown
  bool unsettled = false;  // settle() is due as soon as the message has been read
  // a new std::exception_ptr of the trace callback, to rethrow in place of all that
  void* instead = nullptr;
};

// In arrival::from: there is more to do than a plain arrival does. It ended, say, or somebody
// traces.
inline constexpr std::uintptr_t look_back_bit = 1;
inline bool is_plain(void* from) noexcept {
  return !(reinterpret_cast<std::uintptr_t>(from) & look_back_bit);
}
inline bool is_switch(void* from) noexcept {
  return reinterpret_cast<std::uintptr_t>(from) != look_back_bit;
}

// What a fiber does. `run` gets the first message and returns the last one, which must outlive the
// fiber's stack (it lives in the payload); a task returns null.
struct eh_state;
struct body {
  message* (*run)(fiber*, message* first) noexcept;
  void (*destroy)(void* payload) noexcept;
  eh_state* (*eh_globals)() noexcept = nullptr;  // the C++ run-time's, of the calling thread
};

// The C++ run-time's per-thread exception state (Itanium C++ ABI 2.2.2): which exceptions are being
// handled, and how many thrown ones are not caught yet. Each fiber has its own: one that leaves
// with some takes it along, so during a switch there is none.
struct eh_state {
  void* caught = nullptr;
  unsigned int uncaught = 0;
  bool none() const noexcept { return (reinterpret_cast<std::uintptr_t>(caught) | uncaught) == 0; }
};

enum class fiber_kind : std::uint8_t { explicit_switch, task };

struct fiber_options {
  std::size_t stack_size = 0;  // 0: the default
  const char* name = "";
  fiber_kind kind = fiber_kind::explicit_switch;
  const void* family = nullptr;
};

enum class fiber_status : std::uint8_t { fresh, switched, running, parked, ready, finished };

// What the headers keep with a fiber. Belongs to its own kernel thread.
struct fiber_extra {
  std::int64_t limit = INT64_MAX;  // a wait that lasts until then ends with `interrupted`
  void* limits = nullptr;          // whose limit that is: detail::time_limit*
  unsigned shields = 0;            // while not 0, nothing interrupts a wait
  // who runs here and may not wait: each wait ends with `interrupted` at once
  const char* forbidden = nullptr;
  void* locals = nullptr;  // fiber-local values, dropped at the latest with the fiber
  void (*drop_locals)(void* locals) noexcept = nullptr;
};

// --- what the headers see of lib/'s own structures: enough to switch plainly without a call ---

// A fiber's state. Its own kernel thread writes it; any may ask whether a fiber has ended, and then
// read what it left behind.
class status_cell {
 public:
  operator fiber_status() const noexcept { return value_.load(std::memory_order_acquire); }
  void operator=(fiber_status s) noexcept { value_.store(s, std::memory_order_release); }

 private:
  std::atomic<fiber_status> value_{fiber_status::fresh};
};

// What the fibers of one kernel thread share (lib/fiber/fiber.hpp: fiber_home).
struct home_head {
  // How deep the running fiber is in the runtime: signal handlers are put off meanwhile
  // (lib/scheduler/hub.hpp: handlers_wait).
  volatile int inside = 0;
  // no switch is plain: somebody traces, or a sanitizer has to hear of it
  bool unusual = false;
  // the running fiber has to look, when it leaves the runtime
  volatile bool handlers_are_due = false;
  // finished, or suspended and held by nobody: see settle()
  fiber* leftover = nullptr;
};

// A fiber (lib/fiber/fiber.hpp). When its turn comes it is mostly in no cache: what a wait and its
// end touch is the first line of one.
struct fiber_head {
  void* sp = nullptr;  // where it stands, unless it runs
  fiber_home* home = nullptr;
  // its thread-local storage: which thread the C library takes it for
  thread_storage* storage = nullptr;
  eh_state* exceptions = nullptr;      // the run-time's, of that storage
  const wait_info* waiting = nullptr;  // for what, while it is parked
  status_cell state;
  // lost its last handle while it ran: unwound as soon as it is suspended
  bool orphan = false;
  // its waits and switches have more to look at: see tell_unusual()
  bool unusual = false;
  wake woken = wake::unparked;  // how its last wait has ended
  // where that wait has a deadline: its place in the hub's timers; 0: none
  std::uint32_t timer = 0;
  // How many signal handlers had run for its thread (signal_state::handled) when its current call
  // began.
  std::uint32_t signals_before = 0;
  std::uint32_t norestart_before = 0;
  bool masked = false;  // waits with a signal mask of its own

  // what a plain switch brought (not beside `awaits`: one wide store of both is slow)
  void* value = nullptr;
  void* pending = nullptr;  // a std::exception_ptr*, see interrupt
  // the family of the value it waits for in an explicit switch, or null
  const void* awaits = nullptr;
  std::uint64_t id = 0;
  fiber_extra extra;
};
inline fiber_head& head(fiber* f) noexcept { return *reinterpret_cast<fiber_head*>(f); }
inline const fiber_head& head(const fiber* f) noexcept {
  return *reinterpret_cast<const fiber_head*>(f);
}
inline home_head& head(fiber_home* h) noexcept { return *reinterpret_cast<home_head*>(h); }

// Who is running: the one variable with per-thread meaning. Null on kernel threads without fibers.
extern TENDRIL_API __thread fiber* current __attribute__((tls_model("initial-exec")));

// A new fiber with room for `payload_size` bytes at fiber_payload(); one reference; null: no
// memory.
TENDRIL_API fiber* fiber_new(std::size_t payload_size, const body& b,
                             const fiber_options& o) noexcept;
// The same for a task that is to be started at once: with its stack, and on it. The second: on one
// of the default size, without a name.
TENDRIL_API fiber* task_new(std::size_t payload_size, const body& b, std::size_t stack_size,
                            const char* name) noexcept;
TENDRIL_API fiber* plain_task_new(std::size_t payload_size, const body& b) noexcept;
// Behind the fiber, where a line of the cache begins if it lies on its stack.
inline constexpr std::size_t payload_offset = 384;
inline void* fiber_payload(fiber* f) noexcept {
  return reinterpret_cast<char*>(f) + payload_offset;
}
TENDRIL_API void fiber_ref(fiber* f) noexcept;
// The last reference to a suspended fiber unwinds it with fiber_exit, here if this is its kernel
// thread.
TENDRIL_API void fiber_unref(fiber* f) noexcept;
// The running fiber; on a kernel thread that never had one, its main fiber is made.
TENDRIL_API fiber* make_current() noexcept;
inline fiber* fiber_current() noexcept { return current ? current : make_current(); }
inline bool fibers_share_thread(const fiber* f, const fiber* g) noexcept {
  return head(f).home == head(g).home;
}
inline bool fiber_on_this_thread(const fiber* f) noexcept {
  return fibers_share_thread(f, fiber_current());
}
inline fiber_status fiber_state(const fiber* f) noexcept { return head(f).state; }
inline const void* fiber_awaits(const fiber* f) noexcept { return head(f).awaits; }
inline fiber_extra& fiber_extras(fiber* f) noexcept { return head(f).extra; }
// To be called when one of these has changed, so that a wait or a switch need look at one flag.
inline void tell_unusual(fiber_head& h) noexcept {
  h.unusual = h.pending || h.extra.limit != INT64_MAX || h.extra.forbidden || h.orphan ||
              head(h.home).unusual;
}
TENDRIL_API bool fiber_is_main(const fiber* f) noexcept;
TENDRIL_API fiber* fiber_parent(const fiber* f) noexcept;
TENDRIL_API void fiber_set_parent(fiber* f, fiber* parent) noexcept;
// The first ancestor (or f itself) that is not finished.
TENDRIL_API fiber* fiber_living(fiber* f) noexcept;
TENDRIL_API const char* fiber_name(const fiber* f) noexcept;
TENDRIL_API void fiber_set_name(fiber* f, const char* name) noexcept;
inline std::uint64_t fiber_id(const fiber* f) noexcept { return head(f).id; }

// Why a fiber cannot be switched to.
enum class refusal : std::uintptr_t { no_memory, other_thread, in_hub, other_family };

// Runs `to`, or its first living ancestor, until somebody switches back here; meanwhile the running
// fiber waits for a value of the family. Without a switch the arrival's context is a refusal.
TENDRIL_API arrival fiber_exchange(fiber* to, message* m, const void* family) noexcept;
// The second half: the message that has come. It lives in the sender: read it, then settle(). A
// plain switch brings none: then `plain` is filled in.
TENDRIL_API message* fiber_arrived(void* context, void* from, message* plain) noexcept;
// Ends the fiber that control came from if it has finished, and unwinds it if nobody holds it any
// more. Called by whoever was switched to (a fresh fiber too) as soon as the message was read.
TENDRIL_API void settle() noexcept;

// The same where there is nothing to look after: `to` waits for a value of this very family, nobody
// traces, no exception is being handled, and so on. Inline, for then the jump's own return is the
// only one.
[[gnu::always_inline]] inline bool switches_plainly(const fiber_head& self, const fiber_head& to,
                                                    const void* family) noexcept {
  return to.awaits == family && to.storage == self.storage && !self.unusual &&
         head(self.home).inside == 0 && self.exceptions->none();
}
[[gnu::always_inline]] inline arrival switch_plainly(fiber_head& self, fiber_head& to, void* value,
                                                     const void* family) noexcept {
  head(self.home).inside = 1;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  self.state = fiber_status::switched;
  self.awaits = family;
  to.state = fiber_status::running;
  to.awaits = nullptr;
  to.value = value;
  current = reinterpret_cast<fiber*>(&to);
  return jump(to.sp, &self);
}
TENDRIL_API void run_handlers_due() noexcept;
// The second half, if is_plain(from): the value, which lives in the sender.
[[gnu::always_inline]] inline void* arrived_plainly(fiber_head& self, void* context,
                                                    void* from) noexcept {
  head(static_cast<fiber*>(from)).sp = context;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  head(self.home).inside = 0;
  if (head(self.home).handlers_are_due) [[unlikely]]
    run_handlers_due();
  return self.value;
}

// Called after each switch, on the fiber that was switched to. Returns null, or a new
// std::exception_ptr: that ends the tracing and comes out of the next explicit switch.
using tracer = void* (*)(void* context, fiber* from, fiber* to, bool thrown) noexcept;
// `drop` is called when the context is no longer needed, perhaps while the tracer runs.
TENDRIL_API void set_tracer(tracer t, void* context, void (*drop)(void* context) noexcept) noexcept;
TENDRIL_API void* tracer_context() noexcept;

// --- the hub ---

// What a parked fiber waits for, for reports and for deadlock detection.
enum class wait_kind : std::uint8_t {
  sleep,
  task,
  descriptor,
  descriptors,
  child,
  helper,
  signal,
  lock,
  event,
  queue,
  other,
};
struct wait_info {
  // Each 1 or 0: the hub adds both up in one.
  std::uint32_t remote = 0;  // another kernel thread, or the system, may end this wait
  std::uint32_t shared = 0;  // another kernel thread may end this wait, if the process has any
  wait_kind kind = wait_kind::other;
  bool interruptible = false;    // a signal handler ends it
  bool uninterruptible = false;  // kill() waits until it has ended by itself
  // waits for a signal handler to run: any fiber, not only the main one
  bool for_signal = false;
  int fd = -1;
  const void* target = nullptr;
};

// Suspends the running fiber until unpark(), or until `deadline` (CLOCK_MONOTONIC nanoseconds).
// May return `unparked` without cause: callers check what they wait for and park again.
// Long waits may end up to a millisecond late, unless the deadline is `precise`.
TENDRIL_API wake park(std::int64_t deadline, const wait_info& what, bool precise = false) noexcept;
// The same in two halves, the first without a deadline and with one; `self` is the running fiber.
// Without a switch the arrival's context is the wake.
TENDRIL_API arrival park_until_unparked(const wait_info& what, fiber* self) noexcept;
TENDRIL_API arrival park_until(std::int64_t deadline, const wait_info& what, bool precise,
                               fiber* self) noexcept;
TENDRIL_API wake parked_slowly(void* context, void* from) noexcept;
TENDRIL_API void forget_deadline(fiber* self) noexcept;
[[gnu::always_inline]] inline wake parked(fiber_head& self, void* context, void* from,
                                          bool limited) noexcept {
  if (!is_plain(from)) [[unlikely]]
    return parked_slowly(context, from);
  head(static_cast<fiber*>(from)).sp = context;
  if (limited && self.woken != wake::timeout) forget_deadline(reinterpret_cast<fiber*>(&self));
  std::atomic_signal_fence(std::memory_order_seq_cst);
  head(self.home).inside = 0;
  if (head(self.home).handlers_are_due) [[unlikely]]
    run_handlers_due();
  return self.woken;
}
// Makes a parked fiber runnable, from any kernel thread. A fiber that is not parked is left alone,
// unless it belongs to another kernel thread, whose hub then looks.
TENDRIL_API void unpark(fiber* f) noexcept;
// Lets the other runnable fibers run once. Returns interrupted, or unparked.
TENDRIL_API wake yield() noexcept;
// The same in two halves. Without a switch the arrival's context is the wake.
TENDRIL_API arrival give_way(fiber* self) noexcept;
TENDRIL_API wake gave_way_slowly(void* context, void* from) noexcept;
TENDRIL_API wake gave_way_unusually() noexcept;
[[gnu::always_inline]] inline wake gave_way(fiber_head& self, void* context, void* from) noexcept {
  if (!is_plain(from)) [[unlikely]]
    return gave_way_slowly(context, from);
  head(static_cast<fiber*>(from)).sp = context;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  head(self.home).inside = 0;
  if (head(self.home).handlers_are_due) [[unlikely]]
    run_handlers_due();
  return self.unusual ? gave_way_unusually() : wake::unparked;
}
// Puts a fresh task into the ready queue; it lives until it is finished, with or without handles.
// False: no memory.
TENDRIL_API bool start(fiber* task) noexcept;
// Leaves an error (a new std::exception_ptr) for f to throw at its next cancellation point and
// wakes it if it is parked. Returns the error that was still waiting there, for the caller to
// delete.
TENDRIL_API void* interrupt(fiber* f, void* error) noexcept;
inline void* fiber_take_pending(fiber* f) noexcept {
  void* p = head(f).pending;
  if (p) {
    head(f).pending = nullptr;
    tell_unusual(head(f));
  }
  return p;
}
inline bool fiber_has_pending(const fiber* f) noexcept { return head(f).pending; }
TENDRIL_API std::int64_t now_ns() noexcept;
// Who waits for what on this kernel thread, one line each; writes at most n bytes and a final zero.
// `mine` is what the running fiber was waiting for, if anything.
TENDRIL_API std::size_t wait_report(char* out, std::size_t n,
                                    const wait_info* mine = nullptr) noexcept;
// Called for each unfinished task when its kernel thread ends: must leave an interrupt in it.
using reaper = void (*)(fiber*) noexcept;
TENDRIL_API void set_reaper(reaper r) noexcept;

// --- descriptors of which the program does not know the number ---

// fd is new, nobody else knows its description, and the cooperative calls alone are made on it from
// now on: what they find out about it holds until one of them changes it.
TENDRIL_API void keep_descriptor(int fd) noexcept;
// The program learns the number: from now on anything may happen to it.
TENDRIL_API void reveal_descriptor(int fd) noexcept;

// --- what an exclusion (exclusion.hpp) needs from the system ---

// Whether barrier_all() works here: then an object may be owned by one kernel thread without atomic
// operations.
TENDRIL_API bool barrier_available() noexcept;
// A memory barrier on every running kernel thread of the process.
TENDRIL_API void barrier_all() noexcept;
TENDRIL_API void futex_sleep(const void* word, std::uint32_t expected) noexcept;
TENDRIL_API void futex_wake_one(const void* word) noexcept;
// Lets another kernel thread run: for a lock whose holder may have been preempted.
TENDRIL_API void processor_yield() noexcept;

[[noreturn]] TENDRIL_API void fail(const char* what) noexcept;

}  // namespace tendril::core
