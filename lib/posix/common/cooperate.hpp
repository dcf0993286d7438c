// The parts of every cooperative call: the check whether to cooperate, the wait, and the conversion
// to errno. (The wait for a descriptor is in posix/descriptors/wait.hpp.)
//
// The path of a blocking call, say recv:
//   cooperative()?   no: call the C library's own recv
//   try              recvfrom(MSG_DONTWAIT) as a raw system call; would not block: done
//   blocks()?        no, the program set O_NONBLOCK itself: return EAGAIN
//   wait_for()       registers the descriptor, parks; other fibers run; an edge unparks
//   try again
#pragma once

#include <errno.h>

#include <tendril/posix.hpp>

#include "base/sys.hpp"
#include "libc/real.hpp"
#include "posix/common/cancellation.hpp"
#include "posix/common/program_memory.hpp"
#include "scheduler/crew.hpp"
#include "scheduler/park.hpp"

namespace tendril::posix {

using core::deadline;
using core::fiber;
using core::hub;

// Whether the calling fiber should let others run while it waits. If false, the call goes to the C
// library: on kernel threads without other fibers (unless a time limit of the fiber may end the
// wait), in some signal handlers, and in a vfork child.
bool cooperative_here(fiber* self) noexcept;
// Whether other fibers could run, or have left memory that the hub still has to give back.
extern std::atomic<bool> always;  // or the program called cooperate_always()
// or a preemption tick may come (preempt.hpp), which would end a wait in the kernel with EINTR
extern std::atomic<bool> ticking;
// Whether the program's threads run on other hubs, too: then this one takes part in the crew's work
// even if only one thread is on it.
inline bool has_crew(const hub& h) noexcept { return h.several_threads && core::crew.size() > 1; }
// Whether the hub can run others while `self` waits, or wait for itself in their place.
inline bool could_park(const fiber* self) noexcept {
  const hub& h = *hub::of(self);
  return h.unfinished != 0 || has_crew(h);
}
inline bool others_here(fiber* self) noexcept {
  const hub& h = *hub::of(self);
  return could_park(self) || always.load(std::memory_order_relaxed) || ticking.load() ||
         h.trim.is_needed(h);
}
inline bool cooperative() noexcept {
  fiber* self = core::current;
  if (!self) [[likely]]
    return false;
  return cooperative_here(self);
}

// Whether every fiber of the hub is a thread with storage of its own, and therefore its own errno.
inline bool fibers_are_threads(const hub& h) noexcept {
  return h.unfinished + h.native_threads == h.masks.threads();
}

inline hub& my_hub() noexcept { return *hub::of(core::current); }

// False in a vfork child or a child made by a bare clone(): it shares our memory, but must not
// touch the hub.
inline bool in_hubs_process() noexcept { return my_hub().in_own_process(); }

// As cooperative(), for calls that are no cancellation points and are not interrupted by handlers.
bool may_wait_after_all(fiber* self) noexcept;
inline bool may_wait() noexcept {
  fiber* self = core::current;
  if (!self) return false;
  if (hub::of(self)->unfinished != 0 && !self->storage->signals.depth && in_hubs_process())
      [[likely]]
    return true;
  return may_wait_after_all(self);
}

// Let other fibers run, for callers that poll for something that another fiber must do. give_way()
// requires may_wait().
inline void give_way() noexcept {
  int saved = errno;
  core::yield();
  errno = saved;
}
void let_others_run() noexcept;

// Whether a signal handler of that thread is running; forgets handlers that were left by
// siglongjmp. `here`: the current end of the thread's stack, if that is not the caller's frame.
bool in_handler(core::signal_state& s, const void* here = nullptr) noexcept;
// Whether `self`, the running fiber, is in a signal handler during which the kernel thread must not
// run other fibers. A handler on a thread's own fiber may wait like other code. It may not inside
// the runtime (which a fault may have interrupted), where other fibers of the same thread rely on
// not running meanwhile (fibers of the C++ API), and, beside such fibers, on an alternate stack.
bool handler_stays(fiber* self, const void* here = nullptr) noexcept;

// Whether the n bytes at p are in the used part of the running fiber's stack: such memory is
// readable without a check.
inline bool on_own_stack(const void* p, std::size_t n) noexcept {
  const core::stack& s = core::current->stk;
  auto at = static_cast<const std::byte*>(p);
  return s.size != 0 && at >= __builtin_frame_address(0) && at <= s.base + s.size &&
         n <= std::size_t(s.base + s.size - at);
}

// Whether a time-out argument is valid: null, or not negative.
inline bool valid(const timespec* t) noexcept {
  return !t || (t->tv_sec >= 0 && t->tv_nsec >= 0 && t->tv_nsec < 1'000'000'000);
}
inline core::nanoseconds nanoseconds_of(const timespec& t) noexcept {
  return t.tv_sec >= INT64_MAX / 1'000'000'000 ? INT64_MAX : t.tv_sec * 1'000'000'000 + t.tv_nsec;
}
inline deadline time_from_now(const timespec* t) noexcept {
  return t ? deadline::after(core::now(), nanoseconds_of(*t)) : deadline::never();
}
inline timespec time_left(deadline until, core::nanoseconds now = core::now()) noexcept {
  core::nanoseconds left = until.at - now;
  if (left < 0) left = 0;
  return {.tv_sec = left / 1'000'000'000, .tv_nsec = left % 1'000'000'000};
}

// The running thread got EPIPE, and the kernel sent SIGPIPE to its kernel thread. If the thread
// blocks SIGPIPE, moves the pending signal to the thread, before a thread that does not block it
// runs.
void keep_broken_pipe() noexcept;

// Returns a raw result as libc does: -1 and errno.
template <class T = long>
inline T result(long r) noexcept {
  if (sys::failed(r)) {
    if (r == -ECANCELED) act_on_cancel();
    if (r == -EPIPE) keep_broken_pipe();
    errno = int(-r);
    return T(-1);
  }
  return T(r);
}

// Whether a handler that runs during the wait ends it with EINTR: see signal(7), "Interruption of
// system calls".
enum class on_signal {
  restart,  // only handlers without SA_RESTART
  always,   // poll, sleep, and sockets with a time-out
};

// Whether a handler that has run since the running fiber's call began ends that call with EINTR.
// Handlers deferred by a core::handlers_deferred run, and count, when the fiber has left it.
inline bool interrupted(on_signal rule, bool for_signal = false) noexcept {
  fiber* self = core::current;
  core::signal_state& s = self->storage->signals;
  if (self != s.owner && !for_signal) return false;
  return rule == on_signal::always
             ? s.handled.load(std::memory_order_relaxed) != self->signals_before
             : s.handled_norestart.load(std::memory_order_relaxed) != self->norestart_before;
}

// To be called when a call begins, or a wait that no handler ends: handlers that ran before do not
// count.
inline void forget_signals() noexcept {
  fiber* self = core::current;
  const core::signal_state& s = self->storage->signals;
  self->signals_before = s.handled.load(std::memory_order_relaxed);
  self->norestart_before = s.handled_norestart.load(std::memory_order_relaxed);
}

// Whether no handler has run since forget_signals(), so that interrupted() is false.
inline bool no_handler_ran(const fiber* self) noexcept {
  return self->storage->signals.handled.load(std::memory_order_relaxed) == self->signals_before;
}

// Whether the thread can let others run without saving anything: no handler runs or is due, and
// every fiber has its own errno.
inline bool leaves_nothing(const hub& h, const fiber* self) noexcept {
  return !self->storage->signals.any() && fibers_are_threads(h) && h.in_own_process();
}
// Whether a wait without a deadline only has to park: also, no cancellation is requested.
inline bool can_wait_fast(const hub& h, const fiber* self, bool uninterruptible) noexcept {
  return core::can_park_fast(self) && leaves_nothing(h, self) &&
         (uninterruptible || !cancel_asked());
}

// Parks until the source reports something, or until the deadline that look(argument, reports_all)
// returns. look() is called after the waiter was added, so no event is lost; if it returns a time
// that has passed, there is no wait. Its second argument says whether the source reports every
// event. 0: check again; -ETIMEDOUT, -ECANCELED, -EINTR.
int wait_for_source(core::source s, deadline (*look)(void*, bool reports) noexcept,
                    void* argument) noexcept;

// Parks for a reason other than a descriptor. 0 when unparked, else -ETIMEDOUT, -ECANCELED, -EINTR.
// If the waker may have run already, after the caller published itself and before it parks (in a
// handler, or on another kernel thread), it has set `unparked` to non-zero, and there is no wait.
// `ended`: if a signal ends the wait, receives the time before its handler ran.
int wait_parked(const core::wait_info& what, deadline until, on_signal rule,
                const std::atomic<std::uint32_t>* unparked = nullptr,
                core::nanoseconds* ended = nullptr) noexcept;

// --- the parts of a wait ---

// Parks, unless a signal handler has ended the wait already. The caller holds a
// core::handlers_deferred.
[[gnu::always_inline]] inline core::wake park_unless_interrupted(const core::wait_info& what,
                                                                 deadline until,
                                                                 on_signal rule) noexcept {
  if (interrupted(rule, what.for_signal)) return core::wake::signal;
  if (!what.uninterruptible && cancel_due()) return core::wake::interrupted;
  return core::park(until.at, what, true);
}

// Converts how a wait ended to its result, after the handlers have run.
inline int outcome(core::wake why, const core::wait_info& what, on_signal rule) noexcept {
  switch (why) {
    case core::wake::timeout:
      return -ETIMEDOUT;
    case core::wake::interrupted:
      return -ECANCELED;
    case core::wake::closed:
      return -EBADF;
    case core::wake::signal:
      return interrupted(rule, what.for_signal) ? -EINTR : 0;
    default:
      return 0;
  }
}

// Blocks in the kernel: the wait of a process that shares our memory (a vfork child). fd -1: waits
// only for the deadline.
int wait_in_kernel(int fd, std::uint32_t events, deadline until) noexcept;

}  // namespace tendril::posix
