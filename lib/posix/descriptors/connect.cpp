// connect(2), which has no non-blocking form of its own.
//
// If nobody else can see the socket's open file description (this process made it, did not inherit
// or send it since, and no other kernel thread of the program runs), O_NONBLOCK is set during the
// system call; nobody can observe that. Otherwise a helper thread makes the blocking call.
#include <tendril/posix.hpp>

#include <sys/ioctl.h>

#include "posix/common/cooperate.hpp"
#include "posix/common/offload.hpp"
#include "posix/descriptors/file_kind.hpp"
#include "posix/descriptors/wait.hpp"

namespace tendril::posix {

namespace {

long connect_on_helper(int fd, const sockaddr* to, socklen_t len) noexcept {
  return offload_interruptible(
      [&]() noexcept { return sys::call(SYS_connect, fd, to, len); },
      socket_deadline(fd, SO_SNDTIMEO).is_never() ? on_signal::restart : on_signal::always);
}

// Whether a repeated connect(2) completes an attempt: it reports the result, and makes the socket
// usable for another attempt.
bool ends_by_asking(int fd) noexcept {
  if (core::descriptors::is_inet_stream(fd)) return true;
  int domain = socket_option(fd, SO_DOMAIN);
  return domain == AF_INET || domain == AF_INET6;
}

// Waits for the end of a connection attempt that the kernel makes in the background.
long wait_connected(int fd, const sockaddr* to, socklen_t len, deadline until) noexcept {
  std::uint32_t reported = 0;
  do {
    int w = wait_for(fd, EPOLLOUT, until, until.is_never() ? on_signal::restart : on_signal::always,
                     &reported);
    if (w == -ETIMEDOUT) return -EINPROGRESS;
    if (w < 0) return w;
  } while (!reported && !ready_now(fd, POLLOUT));
  if (ends_by_asking(fd)) return sys::call(SYS_connect, fd, to, len);
  int error = 0;
  socklen_t n = sizeof error;
  long r = sys::call_if_allowed(SYS_getsockopt, fd, SOL_SOCKET, SO_ERROR, &error, &n);
  return r < 0 ? r : -error;
}

bool waits_for_peer(int fd) noexcept {
  if (core::descriptors::is_inet_stream(fd)) return true;
  int type = socket_option(fd, SO_TYPE);
  return type == SOCK_STREAM || type == SOCK_SEQPACKET || type == SOCK_DCCP;
}

}  // namespace

int connect(int fd, const sockaddr* to, socklen_t len) {
  deadline until = deadline::never();
  if (!cooperative() || !is_socket(kind_of(fd)) || !waits_until(fd, SO_SNDTIMEO, until) ||
      !waits_for_peer(fd)) {
    return real.connect(fd, to, len);
  }
  if (!core::descriptors::is_private(fd) || !in_hubs_process())
    return result<int>(connect_on_helper(fd, to, len));

  int yes = 1, no = 0;
  sys::call(SYS_ioctl, fd, FIONBIO, &yes);
  int saved = errno;
  int r = real.connect(fd, to, len);
  int error = errno;
  errno = saved;
  if (r < 0 && error == EINPROGRESS && ends_by_asking(fd)) {
    // A peer on this machine has already answered.
    long again = sys::call(SYS_connect, fd, to, len);
    if (again != -EALREADY) r = again < 0 ? -1 : 0, error = int(-again);
  }
  sys::call(SYS_ioctl, fd, FIONBIO, &no);
  if (r == 0) {
    if (core::descriptors::is_inet_stream(fd)) core::descriptors::made_connection(fd);
    my_hub().charge_budget();
    return 0;
  }
  if (error == EINPROGRESS) return result<int>(wait_connected(fd, to, len, until));
  // A unix socket whose listener's backlog is full, or an attempt under way: only the blocking call
  // can wait for these.
  if (error == EAGAIN || error == EALREADY) return result<int>(connect_on_helper(fd, to, len));
  errno = error;
  return r;
}

}  // namespace tendril::posix
