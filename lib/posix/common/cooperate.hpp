// What every cooperative call is made of: the question whether to cooperate at all, the wait for a
// descriptor, and the way back to errno.
//
// The path of a blocking call, say recv:
//   cooperative()?   no: the C library's own recv, and that is all
//   try              recvfrom(MSG_DONTWAIT) as a raw system call; not refused: done
//   blocks()?        the program set O_NONBLOCK itself: EAGAIN, as it asked
//   wait_for()       registers the descriptor, parks; other fibers run; an edge unparks
//   try again
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include <tendril/posix.hpp>

#include "base/sys.hpp"
#include "libc/real.hpp"
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

// pthread_cancel reached the running thread, in a cancellation point or before: ends it, if it lets
// that happen, and does not return then. Nothing may be left to do in the frames below the
// program's. For a killed task (ECANCELED in all else), and where nothing is to be cancelled, does
// nothing.
void act_on_cancel() noexcept;
// A kernel thread without fibers was cancelled in a wait of ours that is a cancellation point, and
// is to end.
extern __thread bool kernel_thread_cancelled __attribute__((tls_model("initial-exec")));
// A cancellation point, for such a thread.
inline void cancel_kernel_thread() noexcept {
  if (!core::current) [[unlikely]]
    pthread_testcancel();
}
// Whether anybody has asked for that, and whether it would.
inline bool cancel_asked() noexcept { return core::tls::cancel_asked(arch::thread_pointer()); }
bool cancel_due_if_asked() noexcept;
inline bool cancel_due() noexcept { return cancel_asked() && cancel_due_if_asked(); }
// Whether the running thread's cancellation is PTHREAD_CANCEL_ASYNCHRONOUS, so that it ends waits
// that are no cancellation points.
bool cancels_at_once() noexcept;

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
// Handlers that come while the fiber is inside a core::handlers_wait run, and count, when it has
// left that.
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
inline bool waits_plainly(const hub& h, const fiber* self, bool uninterruptible) noexcept {
  return core::parks_plainly(self) && leaves_nothing(h, self) &&
         (uninterruptible || !cancel_asked());
}

// Parks until `fd` may be ready for `events` (EPOLLIN, ...). 0: try again. Otherwise -ETIMEDOUT,
// -EBADF (closed meanwhile), -ECANCELED (the fiber was killed), -EINTR, or what epoll_ctl says
// (-EPERM: a file, always ready). `told`: which of these, or EPOLLERR, EPOLLHUP, was found; 0:
// nothing, so that to try again may be vain.
int wait_for(int fd, std::uint32_t events, deadline until, on_signal rule,
             std::uint32_t* told = nullptr) noexcept;

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

// Whether the program left fd blocking. False for descriptors that are not open.
inline bool blocks(int fd) noexcept {
  if (sys::is_refused(SYS_fcntl)) [[unlikely]]
    return true;
  long flags = sys::call(SYS_fcntl, fd, F_GETFL);
  if (flags < 0) [[unlikely]]
    return sys::turns_out_refused(SYS_fcntl);
  return !(flags & O_NONBLOCK);
}

// An option of SOL_SOCKET that is a number; -1: an error.
int socket_option(int fd, int name) noexcept;

// The time-out that SO_RCVTIMEO or SO_SNDTIMEO sets, counted from now.
deadline socket_deadline(int fd, int option) noexcept;

// How long a call on fd may wait, SO_RCVTIMEO or SO_SNDTIMEO (0: neither) considered; false: the
// program wants none to wait. Mostly known from the last time.
bool waits_until(int fd, int timeout_option, deadline& until) noexcept;

// Whether fd is a connection without anything to receive, as far as is known without asking. False
// if it may be that somebody else has a hand in it.
inline bool emptied(int fd) noexcept {
  return my_hub().io.drained(fd) && core::descriptors::sees_all(fd) &&
         core::descriptors::is_private(fd);
}

// Waits for input where to try first is known to be vain. 0: try now; else as wait_for().
int wait_if_emptied(int fd) noexcept;

// A thread that waits is mostly in no cache when its turn comes, and pays for each line of its
// frames that is touched then. So what is rare stays out of the frames of those who wait.
//
// An attempt was refused (-EAGAIN): waits and tries until it is not.
template <class Attempt>
[[gnu::noinline]] long wait_until_done(int fd, std::uint32_t events, int timeout_option,
                                       Attempt attempt) noexcept {
  deadline until = deadline::never();
  if (!waits_until(fd, timeout_option, until)) return -EAGAIN;
  on_signal rule = until.is_never() ? on_signal::restart : on_signal::always;
  for (;;) {
    int w = wait_for(fd, events, until, rule);
    if (w == -ETIMEDOUT) return -EAGAIN;
    if (w < 0) return w;
    long r = attempt();
    if (r != -EAGAIN) return r;
  }
}

// Tries until it is not refused (-EAGAIN), waiting in between. `attempt` makes the call without
// blocking and returns the raw result. -EAGAIN comes back if the program asked for it: by
// O_NONBLOCK, or by a socket time-out.
template <class Attempt>
long until_done(int fd, std::uint32_t events, int timeout_option, Attempt attempt) noexcept {
  long r = attempt();
  if (r == -EAGAIN) [[unlikely]]
    return wait_until_done(fd, events, timeout_option, attempt);
  my_hub().breathe();
  return r;
}

// recv(fd, buf, n, 0) that the kernel carries out (TENDRIL_POLLER=io_uring), if there is nothing to
// receive yet. not_by_ring: it has received nothing, and is to be done in the usual way.
constexpr long not_by_ring = -1'000'000;
long receive_by_ring(int fd, void* buf, std::size_t n) noexcept;

// The same for receiving: does not try first where that is known to be vain. room() is how many
// bytes `attempt` asks for; it is called after it got some.
template <class Room, class Attempt>
[[gnu::always_inline]] inline long until_received(int fd, Room room, Attempt attempt) noexcept {
  int w = wait_if_emptied(fd);
  if (w == -EBADF) [[unlikely]]
    return w;
  auto receive = [=]() noexcept -> long {
    core::poller& io = my_hub().io;
    std::uint32_t begun = io.begin_receive(fd);
    long r = attempt();
    if (r > 0 && std::size_t(r) < room()) io.received_all(fd, begun);
    return r;
  };
  // What ended the wait may have been first, but something may be there all the same.
  long r = receive();
  if (r == -EAGAIN) [[unlikely]]
    return w < 0 ? w : wait_until_done(fd, EPOLLIN, SO_RCVTIMEO, receive);
  my_hub().breathe();
  return r;
}

// What kind of file a descriptor stands for, as far as the calls care.
// (event: an eventfd; packets: a SOCK_SEQPACKET socket.)
enum class file_kind : std::uint8_t {
  unknown,
  socket,
  pipe,
  regular,
  character,
  event,
  other,
  packets
};
inline bool is_socket(file_kind k) noexcept {
  return k == file_kind::socket || k == file_kind::packets;
}
inline file_kind kind_of_socket(int type) noexcept {
  return type == SOCK_SEQPACKET ? file_kind::packets : file_kind::socket;
}
file_kind kind_of(int fd) noexcept;
void note_kind(int fd, file_kind k) noexcept;
// The same without trusting what was known before.
file_kind look_up_kind(int fd) noexcept;

// Whether poll(2) finds `events` (POLLIN, ...) now. Errors count as ready: the call itself will
// tell them.
bool ready_now(int fd, short events) noexcept;

// Whether a read of fd may have to wait for SO_RCVLOWAT bytes, as only recvmsg() does.
bool receives_by_mark(int fd) noexcept;

// Whether poll(2) tells a hang-up: nothing more can be sent.
bool hung_up(int fd) noexcept;

// For descriptors whose calls have no non-blocking form: waits until it is ready. 0, or as
// wait_for; -EAGAIN if the program made it non-blocking, or its time (SO_RCVTIMEO, SO_SNDTIMEO) is
// over.
int wait_ready(int fd, short events) noexcept;

}  // namespace tendril::posix
