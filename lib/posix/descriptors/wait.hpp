// Waiting for a descriptor, for calls that may find it not ready: they first try without blocking,
// and wait if the attempt would block.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>

#include "posix/common/cooperate.hpp"

namespace tendril::posix {

// Parks until `fd` may be ready for `events` (EPOLLIN, ...). 0: try again. Otherwise -ETIMEDOUT,
// -EBADF (closed meanwhile), -ECANCELED (the fiber was killed), -EINTR, or epoll_ctl's error
// (-EPERM: a regular file, always ready). `reported` receives which of these events, or EPOLLERR,
// EPOLLHUP, was reported; 0: none, so the next attempt may block again.
int wait_for(int fd, std::uint32_t events, deadline until, on_signal rule,
             std::uint32_t* reported = nullptr) noexcept;

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

// Whether a call on fd may wait, and until when: considers O_NONBLOCK and SO_RCVTIMEO or
// SO_SNDTIMEO (`timeout_option`; 0: neither). Usually known from an earlier call.
bool waits_until(int fd, int timeout_option, deadline& until) noexcept;

// Whether receives from fd wait without a time limit, as waits_until() has found before.
bool waits_without_end(int fd) noexcept;

// Whether fd is a connection with nothing to receive, as far as is known without a system call.
// False if another process or unseen code may use the socket.
inline bool emptied(int fd) noexcept {
  return my_hub().io.drained(fd) && core::descriptors::sees_all(fd) &&
         core::descriptors::is_private(fd);
}

// Waits for input if a receive is known to block. 0: try now; otherwise as wait_for().
int wait_if_emptied(int fd) noexcept;

// When a waiting thread's turn comes, its frame is usually in no cache, so each touched line of it
// costs time. Therefore rare cases are kept out of the frames of waiters.
//
// An attempt would block (-EAGAIN): waits and tries again until it does not.
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

// Tries until the attempt does not block (-EAGAIN), waiting in between. `attempt` makes the call
// without blocking and returns the raw result. Returns -EAGAIN if the program asked for it: by
// O_NONBLOCK, or by a socket time-out.
template <class Attempt>
long until_done(int fd, std::uint32_t events, int timeout_option, Attempt attempt) noexcept {
  long r = attempt();
  if (r == -EAGAIN) [[unlikely]]
    return wait_until_done(fd, events, timeout_option, attempt);
  my_hub().charge_budget();
  return r;
}

// As until_done() for receiving, without the first attempt if that is known to block. room()
// returns how many bytes `attempt` asks for; it is called after `attempt` has received some.
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
  // Try even if something else ended the wait: there may be data all the same.
  long r = receive();
  if (r == -EAGAIN) [[unlikely]]
    return w < 0 ? w : wait_until_done(fd, EPOLLIN, SO_RCVTIMEO, receive);
  my_hub().charge_budget();
  return r;
}

// Whether poll(2) reports `events` (POLLIN, ...) now. Errors count as ready: the call itself will
// report them.
bool ready_now(int fd, short events) noexcept;

// Whether a read of fd may have to wait for SO_RCVLOWAT bytes, which only recvmsg() does.
bool receives_by_mark(int fd) noexcept;

// Whether poll(2) reports a hang-up: nothing more can be sent.
bool hung_up(int fd) noexcept;

// For descriptors whose calls have no non-blocking form: waits until fd is ready. 0, or as
// wait_for(); -EAGAIN if the program made it non-blocking, or its time-out (SO_RCVTIMEO,
// SO_SNDTIMEO) has passed.
int wait_ready(int fd, short events) noexcept;

}  // namespace tendril::posix
