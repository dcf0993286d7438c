// Waiting for a descriptor: what calls do that may find it not ready. They try first, without
// blocking, and wait where they were refused.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>

#include "posix/common/cooperate.hpp"

namespace tendril::posix {

// Parks until `fd` may be ready for `events` (EPOLLIN, ...). 0: try again. Otherwise -ETIMEDOUT,
// -EBADF (closed meanwhile), -ECANCELED (the fiber was killed), -EINTR, or what epoll_ctl says
// (-EPERM: a file, always ready). `told`: which of these, or EPOLLERR, EPOLLHUP, was found; 0:
// nothing, so that to try again may be vain.
int wait_for(int fd, std::uint32_t events, deadline until, on_signal rule,
             std::uint32_t* told = nullptr) noexcept;

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

// Whether receives from fd wait without end when they have to: waits_until() found that before.
bool waits_without_end(int fd) noexcept;

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
  my_hub().charge_budget();
  return r;
}

// As until_done() for receiving: does not try first where that is known to be vain. room() is how
// many bytes `attempt` asks for; it is called after it got some.
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
  my_hub().charge_budget();
  return r;
}

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
