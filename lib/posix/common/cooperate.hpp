// What every cooperative call is made of: the question whether to cooperate at all, the wait, and
// the way back to errno. (The wait for a descriptor is in posix/descriptors/wait.hpp.)
//
// The path of a blocking call, say recv:
//   cooperative()?   no: the C library's own recv, and that is all
//   try              recvfrom(MSG_DONTWAIT) as a raw system call; not refused: done
//   blocks()?        the program set O_NONBLOCK itself: EAGAIN, as it asked
//   wait_for()       registers the descriptor, parks; other fibers run; an edge unparks
//   try again
#pragma once

#include <errno.h>

#include <tendril/posix.hpp>

#include "base/sys.hpp"
#include "libc/real.hpp"
#include "posix/common/cancellation.hpp"
#include "posix/common/program_memory.hpp"
#include "scheduler/park.hpp"

namespace tendril::posix {

using core::deadline;
using core::fiber;
using core::hub;

// Whether the calling fiber should let others run while it waits. False on kernel threads without
// other fibers (unless a time-out may end the wait), in some signal handlers, and in a vfork child:
// there a call is the C library's.
bool cooperative_here(fiber* self) noexcept;
// Whether there are other fibers that could run, or there were, and the hub is not done with what
// they left.
extern std::atomic<bool> always;  // or we act as if there were: cooperate_always()
// or a tick may come (preempt.hpp), which ends a wait in the kernel with EINTR
extern std::atomic<bool> ticking;
inline bool others_here(fiber* self) noexcept {
  hub& h = *hub::of(self);
  return h.unfinished != 0 || always.load(std::memory_order_relaxed) || ticking.load() ||
         h.has_to_trim();
}
inline bool cooperative() noexcept {
  fiber* self = core::current;
  if (!self) [[likely]]
    return false;
  return cooperative_here(self);
}

// Whether each fiber of the hub is a thread, with storage, and so an errno, of its own.
inline bool fibers_are_threads(const hub& h) noexcept {
  return h.unfinished + 1 == h.masks.threads();
}

inline hub& my_hub() noexcept { return *hub::of(core::current); }

// False in a vfork child, or one made by a bare clone(): it shares our memory, but must not touch
// our hub.
inline bool in_hubs_process() noexcept { return my_hub().in_own_process(); }

// The same as cooperative() for calls that are no cancellation points, and that no handler ends.
bool may_wait_after_all(fiber* self) noexcept;
inline bool may_wait() noexcept {
  fiber* self = core::current;
  if (!self) return false;
  if (hub::of(self)->unfinished != 0 && !self->storage->signals.depth && in_hubs_process())
      [[likely]]
    return true;
  return may_wait_after_all(self);
}

// Lets other fibers run, for who asks again and again for something that one of them has to do. The
// first is for who knows that he may wait.
inline void give_way() noexcept {
  int saved = errno;
  core::yield();
  errno = saved;
}
void let_others_run() noexcept;

// Whether a signal handler of that thread runs; forgets those that have been left.
// `here`: where the thread's stack ends now, if not at the caller's frame.
bool in_handler(core::signal_state& s, const void* here = nullptr) noexcept;
// Whether a handler runs on that fiber, which runs, that keeps it on the kernel thread. A handler
// on a thread's own fiber may wait as any of its code. It stays inside the runtime, which a fault
// may have interrupted, where others count on not running meanwhile (fibers of the C++ API), and,
// beside such fibers, on an alternate stack.
bool handler_stays(fiber* self, const void* here = nullptr) noexcept;

// Whether the n bytes at p are part of the running fiber's stack, in use: then they can be read
// without asking.
inline bool on_own_stack(const void* p, std::size_t n) noexcept {
  const core::stack& s = core::current->stk;
  auto at = static_cast<const std::byte*>(p);
  return s.size != 0 && at >= __builtin_frame_address(0) && at <= s.base + s.size &&
         n <= std::size_t(s.base + s.size - at);
}

// What a time-out argument may be: null, or a time not below zero.
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

// The running thread has met a broken pipe, and the kernel has sent its kernel thread SIGPIPE. If
// the thread blocks that, it is pending for this thread alone: takes it away before another one
// runs that does not.
void keep_broken_pipe() noexcept;

// A raw result as libc reports it.
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
// Handlers that come while the fiber is inside a core::handlers_deferred run, and count, when it
// has left that.
inline bool interrupted(on_signal rule, bool for_signal = false) noexcept {
  fiber* self = core::current;
  core::signal_state& s = self->storage->signals;
  if (self != s.owner && !for_signal) return false;
  return rule == on_signal::always
             ? s.handled.load(std::memory_order_relaxed) != self->signals_before
             : s.handled_norestart.load(std::memory_order_relaxed) != self->norestart_before;
}

// A call begins, or a wait that no handler ends: those that have run so far mean nothing to it.
inline void forget_signals() noexcept {
  fiber* self = core::current;
  const core::signal_state& s = self->storage->signals;
  self->signals_before = s.handled.load(std::memory_order_relaxed);
  self->norestart_before = s.handled_norestart.load(std::memory_order_relaxed);
}

// Whether no handler has run since that, so that no wait is interrupted().
inline bool no_handler_ran(const fiber* self) noexcept {
  return self->storage->signals.handled.load(std::memory_order_relaxed) == self->signals_before;
}

// Whether a thread has nothing to look after when it lets others run: no handler runs or is due,
// and errno is nobody else's.
inline bool leaves_nothing(const hub& h, const fiber* self) noexcept {
  return !self->storage->signals.any() && fibers_are_threads(h) && h.in_own_process();
}
// Whether a wait without a deadline has but to park: no cancellation is asked for either.
inline bool can_wait_fast(const hub& h, const fiber* self, bool uninterruptible) noexcept {
  return core::can_park_fast(self) && leaves_nothing(h, self) &&
         (uninterruptible || !cancel_asked());
}

// Parks until a source tells of something, or the point of time that look() returns; look(argument)
// is called when the waiter is listed, so that nothing goes by in between. A point that has passed:
// there is no need to wait. `tells`: whether the source tells of everything. 0: look again;
// -ETIMEDOUT, -ECANCELED, -EINTR.
int wait_for_source(core::source s, deadline (*look)(void*, bool tells) noexcept,
                    void* argument) noexcept;

// Parks for a reason other than a descriptor; 0 when unparked, else -ETIMEDOUT, -ECANCELED, -EINTR.
// Whoever was to unpark it may have run since the caller could be found, in a handler or beside
// one: then `unparked` is not zero any more. `ended` is set when a signal ends the wait: to the
// time before its handler has run.
int wait_parked(const core::wait_info& what, deadline until, on_signal rule,
                const std::atomic<std::uint32_t>* unparked = nullptr,
                core::nanoseconds* ended = nullptr) noexcept;

// --- what waits are made of ---

// Parks, unless a signal handler has ended the wait already. The caller holds a
// core::handlers_deferred.
[[gnu::always_inline]] inline core::wake park_unless_interrupted(const core::wait_info& what,
                                                                 deadline until,
                                                                 on_signal rule) noexcept {
  if (interrupted(rule, what.for_signal)) return core::wake::signal;
  if (!what.uninterruptible && cancel_due()) return core::wake::interrupted;
  return core::park(until.at, what, true);
}

// What the end of a wait means, once the handlers have run.
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

// The wait of a process that only borrows our memory (a vfork child): plainly blocking. fd -1: for
// nothing but the deadline.
int wait_in_kernel(int fd, std::uint32_t events, deadline until) noexcept;

}  // namespace tendril::posix
