// The interface between the public headers and lib/. Not for programs.
//
// lib/ is written without exceptions and without the C++ run-time library, so that the preload shim
// brings neither into a C program. It reports results; the headers, which are compiled into the
// program, throw.
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
  unparked,     // unpark() was called
  timeout,      // the deadline passed
  interrupted,  // fiber_take_pending() has an exception to throw (kill, time-out)
  closed,       // the descriptor was closed
  signal,       // a signal handler ran
  deadlock,     // nothing could ever have woken the fiber: see wait_report
};

// What one fiber hands to another in an explicit switch. It lives in the sender's frame or payload
// until it has been read.
struct message {
  const void* value_type = nullptr;  // the type that `value` points to; null: there is no value
  void* value = nullptr;
  void* error = nullptr;  // a std::exception_ptr to rethrow, or null
  bool exit = false;      // throw fiber_exit
  bool reap_due = false;  // call reap() as soon as the message has been read
  // a new std::exception_ptr from the trace callback, to rethrow in place of all the others
  void* instead = nullptr;
};

// Set in switch_result::from if the switch needs more than a plain arrival does: the sender has
// ended, say, or a tracer is set.
inline constexpr std::uintptr_t post_switch_bit = 1;
inline bool is_plain(void* from) noexcept {
  return !(reinterpret_cast<std::uintptr_t>(from) & post_switch_bit);
}
inline bool is_switch(void* from) noexcept {
  return reinterpret_cast<std::uintptr_t>(from) != post_switch_bit;
}

// The code of a fiber. `run` gets the first message and returns the last one, which must outlive
// the fiber's stack (it lives in the payload); a task's returns null.
struct eh_state;
struct body {
  message* (*run)(fiber*, message* first) noexcept;
  void (*destroy)(void* payload) noexcept;
  // returns the C++ run-time's state of the calling thread
  eh_state* (*eh_globals)() noexcept = nullptr;
};

// The C++ run-time's per-thread exception state (Itanium C++ ABI 2.2.2): the exceptions being
// handled, and the number of thrown ones not caught yet. Each fiber has its own: a fiber that
// switches away with a non-empty state saves it, so the state is empty during a switch.
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
  const void* value_type = nullptr;
};

enum class fiber_status : std::uint8_t { fresh, switched, running, parked, ready, finished };

// What the headers keep with each fiber. Only the fiber's kernel thread may use it.
struct fiber_extra {
  std::int64_t limit = INT64_MAX;   // a wait that lasts until then ends with `interrupted`
  void* limits = nullptr;           // the detail::time_limit that set `limit`
  unsigned shields = 0;             // while not 0, nothing interrupts a wait
  bool pending_ended_wait = false;  // what interrupt() has stored has ended a wait
  // when a limit last ended a wait
  std::int64_t limit_ended_wait = INT64_MIN;
  // if set, what runs here must not wait: each wait ends with `interrupted` at once
  const char* forbidden = nullptr;
  void* locals = nullptr;  // fiber-local values, destroyed with the fiber at the latest
  void (*drop_locals)(void* locals) noexcept = nullptr;
};

// --- the part of lib/'s own structures that the headers see: enough for a plain switch without a
// call ---

// A fiber's state. The fiber's kernel thread writes it. Any kernel thread may ask whether a fiber
// has ended, and may then read what the fiber left behind.
class status_cell {
 public:
  operator fiber_status() const noexcept { return value_.load(std::memory_order_acquire); }
  void operator=(fiber_status s) noexcept { value_.store(s, std::memory_order_release); }

 private:
  std::atomic<fiber_status> value_{fiber_status::fresh};
};

// Shared by the fibers of one kernel thread (lib/fiber/fiber.hpp: fiber_home).
struct home_head {
  // no switch is plain: a tracer is set, or a sanitizer must be informed
  bool needs_slow_path = false;
  // the running fiber must run deferred handlers when it leaves the runtime
  volatile bool handlers_are_due = false;
  // the fiber for reap(): finished, or suspended without handles
  fiber* to_reap = nullptr;
};

// A fiber (lib/fiber/fiber.hpp). When its turn comes, it is usually in no cache, so a wait and its
// end use only the first cache line.
struct fiber_head {
  void* sp = nullptr;  // the stack pointer, unless the fiber runs
  fiber_home* home = nullptr;
  // its thread-local storage, by which the C library identifies the thread
  thread_storage* storage = nullptr;
  eh_state* exceptions = nullptr;      // the C++ run-time's state in that storage
  const wait_info* waiting = nullptr;  // what it waits for, while it is parked
  status_cell state;
  // lost its last handle while it ran: to be unwound as soon as it is suspended
  bool orphan = false;
  // its waits and switches must take the slow path: see update_needs_slow_path()
  bool needs_slow_path = false;
  wake woken = wake::unparked;  // how its last wait ended
  // the index of the wait's deadline in the hub's timers; 0: none
  std::uint32_t timer = 0;
  // The number of signal handlers that had run for its thread (signal_state::handled) when its
  // current call began.
  std::uint32_t signals_before = 0;
  std::uint32_t norestart_before = 0;
  // The nesting depth of the fiber's calls into the runtime. While that of the running fiber is not
  // 0, signal handlers are deferred (lib/fiber/handlers_deferred.hpp). A fiber that does not run is
  // inside the runtime.
  volatile int runtime_depth = 1;
  bool masked = false;  // waits with a signal mask of its own
  // Nothing of its wait, or of the interruption that it gave way in, is attached to its hub: once
  // it can run again, it may run on another one.
  bool movable = false;

  // the value of a plain switch (not next to `awaits`: one wide store of both would be slow)
  void* value = nullptr;
  void* pending = nullptr;  // a std::exception_ptr*: see interrupt()
  // the type of the value that it waits for in an explicit switch, or null
  const void* awaits = nullptr;
  std::uint64_t id = 0;
  fiber_extra extra;
};
inline fiber_head& head(fiber* f) noexcept { return *reinterpret_cast<fiber_head*>(f); }
inline const fiber_head& head(const fiber* f) noexcept {
  return *reinterpret_cast<const fiber_head*>(f);
}
inline home_head& head(fiber_home* h) noexcept { return *reinterpret_cast<home_head*>(h); }

// The running fiber: the only per-thread variable. Null on kernel threads without fibers.
extern TENDRIL_API __thread fiber* current __attribute__((tls_model("initial-exec")));

// Makes a fiber with room for `payload_size` bytes at fiber_payload(). Returns one reference to it,
// or null if there is no memory.
TENDRIL_API fiber* fiber_new(std::size_t payload_size, const body& b,
                             const fiber_options& o) noexcept;
// The same for a task that will be started at once: allocated together with its stack, at the top
// of it. plain_task_new: with the default stack size and without a name.
TENDRIL_API fiber* task_new(std::size_t payload_size, const body& b, std::size_t stack_size,
                            const char* name) noexcept;
TENDRIL_API fiber* plain_task_new(std::size_t payload_size, const body& b) noexcept;
// After the fiber, at a cache line boundary if the fiber is on its stack.
inline constexpr std::size_t payload_offset = 384;
inline void* fiber_payload(fiber* f) noexcept {
  return reinterpret_cast<char*>(f) + payload_offset;
}
inline fiber* fiber_of_payload(void* payload) noexcept {
  return reinterpret_cast<fiber*>(static_cast<char*>(payload) - payload_offset);
}
TENDRIL_API void fiber_ref(fiber* f) noexcept;
// Drops a reference. The last one to a suspended fiber unwinds it with fiber_exit, immediately if
// this is its kernel thread.
TENDRIL_API void fiber_unref(fiber* f) noexcept;
// The running fiber. On a kernel thread that never had one, makes its main fiber.
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
// Must be called when one of these has changed, so that waits and switches test a single flag.
inline void update_needs_slow_path(fiber_head& h) noexcept {
  h.needs_slow_path = h.pending || h.extra.limit != INT64_MAX || h.extra.forbidden || h.orphan ||
                      head(h.home).needs_slow_path;
}
TENDRIL_API bool fiber_is_main(const fiber* f) noexcept;
TENDRIL_API fiber* fiber_parent(const fiber* f) noexcept;
TENDRIL_API void fiber_set_parent(fiber* f, fiber* parent) noexcept;
// f, or its first ancestor, that is not finished.
TENDRIL_API fiber* fiber_living(fiber* f) noexcept;
TENDRIL_API const char* fiber_name(const fiber* f) noexcept;
TENDRIL_API void fiber_set_name(fiber* f, const char* name) noexcept;
inline std::uint64_t fiber_id(const fiber* f) noexcept { return head(f).id; }

// Why a switch to a fiber is refused.
enum class refusal : std::uintptr_t { no_memory, other_thread, in_hub, other_value_type };

// Runs `to`, or its first living ancestor, until a fiber switches back; meanwhile the running fiber
// waits for a value of type `value_type`. If the switch is refused, the arrival's context is the
// refusal.
TENDRIL_API switch_result fiber_exchange(fiber* to, message* m, const void* value_type) noexcept;
// The second half: returns the message that has arrived. It lives in the sender: read it, then call
// reap(). A plain switch brings no message: then `plain` is filled in and returned.
TENDRIL_API message* fiber_arrived(void* context, void* from, message* plain) noexcept;
// Frees the fiber that control came from if it has finished, and unwinds it if it has no handles.
// Every fiber that was switched to, also a fresh one, calls this as soon as it has read the
// message.
TENDRIL_API void reap() noexcept;

// The same where nothing else has to be done: `to` waits for a value of this type, no tracer is
// set, no exception is being handled, and so on. It is inline, so that the jump is the only call
// whose return is predicted.
[[gnu::always_inline]] inline bool can_switch_fast(const fiber_head& self, const fiber_head& to,
                                                   const void* value_type) noexcept {
  return to.awaits == value_type && to.storage == self.storage && !self.needs_slow_path &&
         self.runtime_depth == 0 && self.exceptions->none();
}
[[gnu::always_inline]] inline switch_result switch_fast(fiber_head& self, fiber_head& to,
                                                        void* value,
                                                        const void* value_type) noexcept {
  self.runtime_depth = 1;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  self.state = fiber_status::switched;
  self.awaits = value_type;
  to.state = fiber_status::running;
  to.awaits = nullptr;
  to.value = value;
  current = reinterpret_cast<fiber*>(&to);
  return jump(to.sp, &self);
}
TENDRIL_API void run_handlers_due() noexcept;
// The second half, if is_plain(from): returns the value, which lives in the sender.
[[gnu::always_inline]] inline void* arrived_fast(fiber_head& self, void* context,
                                                 void* from) noexcept {
  head(static_cast<fiber*>(from)).sp = context;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  self.runtime_depth = 0;
  if (head(self.home).handlers_are_due) [[unlikely]]
    run_handlers_due();
  return self.value;
}

// Called after each switch, on the fiber that was switched to. Returns null, or a new
// std::exception_ptr, which ends the tracing and is thrown by the next explicit switch.
using tracer = void* (*)(void* context, fiber* from, fiber* to, bool thrown) noexcept;
// `drop` is called when the context is no longer needed, possibly while the tracer runs.
TENDRIL_API void set_tracer(tracer t, void* context, void (*drop)(void* context) noexcept) noexcept;
TENDRIL_API void* tracer_context() noexcept;

// --- the hub ---

// What a parked fiber waits for: for reports and for deadlock detection.
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
  // Each is 1 or 0, so that the hub counts both in one addition.
  std::uint32_t wakeable_by_system = 0;  // another kernel thread, or the system, may end this wait
  // another kernel thread may end this wait, if the process has any
  std::uint32_t wakeable_by_threads = 0;
  wait_kind kind = wait_kind::other;
  bool interruptible = false;    // a signal handler ends the wait
  bool uninterruptible = false;  // kill() does not end the wait; it takes effect afterwards
  // waits for a signal handler to run: applies to any fiber, not only the main one
  bool for_signal = false;
  // nothing of the wait is attached to the hub; posix::wait_parked() heeds it
  bool movable = false;
  int fd = -1;
  const void* target = nullptr;
};

// Suspends the running fiber until unpark(), or until `deadline` (CLOCK_MONOTONIC, nanoseconds).
// May return `unparked` spuriously: callers check their condition and park again. A long wait may
// end up to a millisecond late, unless it is `precise`.
TENDRIL_API wake park(std::int64_t deadline, const wait_info& what, bool precise = false) noexcept;
// The same in two halves; the first half exists without and with a deadline. `self` is the running
// fiber. If there was no switch, the arrival's context is the wake.
TENDRIL_API switch_result park_until_unparked(const wait_info& what, fiber* self) noexcept;
TENDRIL_API switch_result park_until(std::int64_t deadline, const wait_info& what, bool precise,
                                     fiber* self) noexcept;
TENDRIL_API wake parked_slow(void* context, void* from) noexcept;
TENDRIL_API void forget_deadline(fiber* self) noexcept;
[[gnu::always_inline]] inline wake parked(fiber_head& self, void* context, void* from,
                                          bool limited) noexcept {
  if (!is_plain(from)) [[unlikely]]
    return parked_slow(context, from);
  head(static_cast<fiber*>(from)).sp = context;
  if (limited && self.woken != wake::timeout) forget_deadline(reinterpret_cast<fiber*>(&self));
  std::atomic_signal_fence(std::memory_order_seq_cst);
  self.runtime_depth = 0;
  if (head(self.home).handlers_are_due) [[unlikely]]
    run_handlers_due();
  return self.woken;
}
// Makes a parked fiber runnable. Any kernel thread may call it. Does nothing to a fiber that is not
// parked; if the fiber belongs to another kernel thread, that thread's hub checks.
TENDRIL_API void unpark(fiber* f) noexcept;
// Lets the other runnable fibers run once. Returns `interrupted` or `unparked`.
TENDRIL_API wake yield() noexcept;
// The same in two halves. If there was no switch, the arrival's context is the wake.
TENDRIL_API switch_result give_way(fiber* self) noexcept;
TENDRIL_API wake gave_way_slow(void* context, void* from) noexcept;
TENDRIL_API wake wake_of_slow_path() noexcept;
[[gnu::always_inline]] inline wake gave_way(fiber_head& self, void* context, void* from) noexcept {
  if (!is_plain(from)) [[unlikely]]
    return gave_way_slow(context, from);
  head(static_cast<fiber*>(from)).sp = context;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  self.runtime_depth = 0;
  if (head(self.home).handlers_are_due) [[unlikely]]
    run_handlers_due();
  return self.needs_slow_path ? wake_of_slow_path() : wake::unparked;
}
// Makes a fresh task runnable. It lives until it has finished, with or without handles. Returns
// false if there is no memory.
TENDRIL_API bool start(fiber* task) noexcept;
// The same on the kernel thread of another fiber, whose storage the task then shares. The task must
// be a new one of fiber_new(). Returns false if that kernel thread has ended, or is the parent's of
// a fork: then the task is unchanged. Takes over the caller's reference to it, unless it returns
// false.
TENDRIL_API bool start_at(const fiber* there, fiber* task) noexcept;
// Stores an error (a new std::exception_ptr) for f to throw at its next cancellation point, and
// wakes f if it is parked. Returns the error that was stored before and not thrown; the caller must
// delete it.
TENDRIL_API void* interrupt(fiber* f, void* error) noexcept;
inline void* fiber_take_pending(fiber* f) noexcept {
  void* p = head(f).pending;
  if (p) {
    head(f).pending = nullptr;
    update_needs_slow_path(head(f));
  }
  return p;
}
inline bool fiber_has_pending(const fiber* f) noexcept { return head(f).pending; }
TENDRIL_API std::int64_t now_ns() noexcept;
// Writes which fiber of this kernel thread waits for what, one line each: at most n bytes and a
// final zero. `mine` is what the running fiber was waiting for, or null.
TENDRIL_API std::size_t wait_report(char* out, std::size_t n,
                                    const wait_info* mine = nullptr) noexcept;
// Called for each unfinished task when its kernel thread ends. It must call interrupt() on the
// task.
using reaper = void (*)(fiber*) noexcept;
TENDRIL_API void set_reaper(reaper r) noexcept;

// --- kernel threads, each with a hub, that share work ---

// Creates a kernel thread, also where the program's threads are fibers. It blocks all signals.
// Returns an error number. Any kernel thread may call these; each kernel thread must be joined or
// detached once (`id` is its pthread_t). join_kernel_thread() blocks the calling kernel thread: it
// is for one that is about to end.
TENDRIL_API int start_kernel_thread(unsigned long& id, void* (*run)(void*),
                                    void* argument) noexcept;
TENDRIL_API void join_kernel_thread(unsigned long id) noexcept;
TENDRIL_API void detach_kernel_thread(unsigned long id) noexcept;
// Is told of the sleep of a hub, on that hub's kernel thread, inside the runtime: neither function
// may wait.
struct sleep_observer {
  // The hub has nothing to run and is about to sleep. Returns false if it must look for something
  // to run again: unpark() was called for one of its fibers.
  bool (*before)(sleep_observer&) noexcept;
  // The hub has slept.
  void (*after)(sleep_observer&) noexcept;
};
// Sets the observer of the calling kernel thread's hub, which must outlive it or be taken back;
// null: none.
TENDRIL_API void set_sleep_observer(sleep_observer* o) noexcept;
// Changes in the child of each fork: an object that remembers it knows whether it is the parent
// process's.
TENDRIL_API unsigned process_generation() noexcept;

// --- descriptors whose number the program does not know ---

// Declares that fd is new, that no other code knows its open file description, and that only the
// cooperative calls will be made on it: what they learn about it remains true until one of them
// changes it.
TENDRIL_API void keep_descriptor(int fd) noexcept;
// Declares that the program learns the number: from now on its state may change unseen.
TENDRIL_API void reveal_descriptor(int fd) noexcept;

// --- what a biased_lock (biased_lock.hpp) needs from the system ---

// Whether barrier_all() works here. If so, one kernel thread may own an object without atomic
// operations.
TENDRIL_API bool barrier_available() noexcept;
// Executes a memory barrier on every running kernel thread of the process.
TENDRIL_API void barrier_all() noexcept;
TENDRIL_API void futex_sleep(const void* word, std::uint32_t expected) noexcept;
TENDRIL_API void futex_wake_one(const void* word) noexcept;
// Lets another kernel thread run: used while waiting for a lock whose holder may have been
// preempted.
TENDRIL_API void processor_yield() noexcept;

// Writes a message to standard error and aborts the process.
[[noreturn]] TENDRIL_API void fail(const char* what) noexcept;

}  // namespace tendril::core
