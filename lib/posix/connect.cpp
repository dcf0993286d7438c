// connect(2), which has no non-blocking form of its own.
//
// Where nobody else can see the socket's description (made by this process, not inherited or sent since, and no
// other kernel thread of the program is at work), O_NONBLOCK is set for the length of the system call: that
// cannot be observed. Otherwise a helper thread makes the blocking call.
#include <tendril/posix.hpp>

#include "cooperate.hpp"
#include "offload.hpp"

namespace tendril::posix {

namespace {

long connect_on_helper(int fd, const sockaddr* to, socklen_t len) noexcept {
  return offload_interruptible([&]() noexcept { return sys::call(SYS_connect, fd, to, len); },
                               socket_deadline(fd, SO_SNDTIMEO).is_never() ? on_signal::restart : on_signal::always);
}

// The end of a connection attempt that the kernel makes in the background.
long wait_connected(int fd, const sockaddr* to, socklen_t len) noexcept {
  deadline until = socket_deadline(fd, SO_SNDTIMEO);
  do {
    int w = wait_for(fd, EPOLLOUT, until, until.is_never() ? on_signal::restart : on_signal::always);
    if (w == -ETIMEDOUT) return -EINPROGRESS;
    if (w < 0) return w;
  } while (!ready_now(fd, POLLOUT));
  int domain = 0, error = 0;
  socklen_t n = sizeof domain;
  sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &domain, &n);
  // Where asking again ends the attempt: it tells how, and makes the socket fit for another.
  if (domain == AF_INET || domain == AF_INET6) return sys::call(SYS_connect, fd, to, len);
  n = sizeof error;
  long r = sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &error, &n);
  return r < 0 ? r : -error;
}

}  // namespace

int connect(int fd, const sockaddr* to, socklen_t len) {
  if (!cooperative() || kind_of(fd) != file_kind::socket || !blocks(fd)) return real.connect(fd, to, len);
  int type = 0;
  socklen_t n = sizeof type;
  sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &n);
  // Only these wait for a peer.
  if (type != SOCK_STREAM && type != SOCK_SEQPACKET && type != SOCK_DCCP) return real.connect(fd, to, len);
  if (!core::descriptors::is_private(fd) || !in_hubs_process()) return result<int>(connect_on_helper(fd, to, len));

  long flags = sys::call(SYS_fcntl, fd, F_GETFL);
  sys::call(SYS_fcntl, fd, F_SETFL, flags | O_NONBLOCK);
  int saved = errno;
  int r = real.connect(fd, to, len);
  int error = errno;
  errno = saved;
  sys::call(SYS_fcntl, fd, F_SETFL, flags);
  if (r == 0) {
    my_hub().breathe();
    return 0;
  }
  if (error == EINPROGRESS) return result<int>(wait_connected(fd, to, len));
  // A unix socket whose listener's backlog is full, or an attempt under way: only the blocking call waits.
  if (error == EAGAIN || error == EALREADY) return result<int>(connect_on_helper(fd, to, len));
  errno = error;
  return r;
}

}  // namespace tendril::posix
