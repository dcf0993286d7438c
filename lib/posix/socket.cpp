// Sockets: receiving, sending, accepting. MSG_DONTWAIT is the non-blocking form; accept(2) has none and is
// polled first.
#include <tendril/posix.hpp>

#include "cooperate.hpp"
#include "vector.hpp"

namespace tendril::posix {

namespace {

// recvmsg(2) as the base of all receiving. MSG_WAITALL waits, on stream sockets, until everything has come, the
// peer has closed, or an error.
long receive(int fd, msghdr* m, int flags) noexcept {
  auto attempt = [&]() noexcept { return sys::call(SYS_recvmsg, fd, m, flags | MSG_DONTWAIT); };
  if (!(flags & MSG_WAITALL)) return until_done(fd, EPOLLIN, SO_RCVTIMEO, attempt);

  int type = 0;
  socklen_t n = sizeof type;
  sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &n);
  long r = attempt();
  if (type != SOCK_STREAM || (r <= 0 && r != -EAGAIN) || (flags & (MSG_OOB | MSG_ERRQUEUE))) {
    return r == -EAGAIN ? until_done(fd, EPOLLIN, SO_RCVTIMEO, attempt) : r;
  }
  vector_walk walk(m->msg_iov, int(m->msg_iovlen));
  if (!blocks(fd) || (r >= 0 && std::size_t(r) == walk.total())) return r;
  deadline until = socket_deadline(fd, SO_RCVTIMEO);
  on_signal rule = until.is_never() ? on_signal::restart : on_signal::always;
  msghdr rest = *m;
  for (;;) {
    if (r > 0) {
      if (flags & MSG_PEEK) {
        // Peeking begins at the front each time; what is there is told only when all of it is.
        if (std::size_t(r) == walk.total() || ready_now(fd, POLLRDHUP)) return r;
      } else {
        // Control messages and a boundary (MSG_EOR, an urgent byte) end the wait, as they do in the kernel.
        if (!walk.advance(std::size_t(r)) || walk.left() == 0 || (m->msg_controllen && r > 0 && rest.msg_controllen)) break;
        rest.msg_iov = const_cast<iovec*>(walk.data());
        rest.msg_iovlen = std::size_t(walk.size());
        rest.msg_control = nullptr;
        rest.msg_controllen = 0;
      }
    } else if (r == 0 || r != -EAGAIN) {
      return walk.done() ? long(walk.done()) : r;
    }
    if (r == -EAGAIN || (flags & MSG_PEEK)) {
      int w = wait_for(fd, EPOLLIN | EPOLLRDHUP, until, rule);
      if (w < 0) {
        if (flags & MSG_PEEK) return r > 0 ? r : w == -ETIMEDOUT ? -EAGAIN : w;
        return walk.done() ? long(walk.done()) : w == -ETIMEDOUT ? -EAGAIN : w;
      }
    }
    r = sys::call(SYS_recvmsg, fd, &rest, flags | MSG_DONTWAIT);
    if (flags & MSG_PEEK) m->msg_flags = rest.msg_flags;
  }
  m->msg_flags = rest.msg_flags;
  return long(walk.done());
}

// sendmsg(2) as the base of all sending. On a stream a blocking send returns when everything is in the buffer.
long send_all(int fd, const msghdr* m, int flags) noexcept {
  if (m->msg_controllen) core::descriptors::shared();  // SCM_RIGHTS, perhaps
  long r = sys::call(SYS_sendmsg, fd, m, flags | MSG_DONTWAIT);
  if (r < 0 && r != -EAGAIN) return r;
  vector_walk walk(m->msg_iov, int(m->msg_iovlen));
  if (r >= 0 && std::size_t(r) >= walk.total()) {
    my_hub().breathe();
    return r;
  }
  if (!blocks(fd)) return r;
  deadline until = socket_deadline(fd, SO_SNDTIMEO);
  on_signal rule = until.is_never() ? on_signal::restart : on_signal::always;
  msghdr rest = *m;
  for (;;) {
    if (r > 0) {
      if (!walk.advance(std::size_t(r)) || walk.left() == 0) break;
      rest.msg_iov = const_cast<iovec*>(walk.data());
      rest.msg_iovlen = std::size_t(walk.size());
      rest.msg_control = nullptr;  // went with the first bytes
      rest.msg_controllen = 0;
    } else if (r < 0 && r != -EAGAIN) {
      return walk.done() ? long(walk.done()) : r;
    } else {
      int w = wait_for(fd, EPOLLOUT, until, rule);
      if (w < 0) return walk.done() ? long(walk.done()) : w == -ETIMEDOUT ? -EAGAIN : w;
    }
    r = sys::call(SYS_sendmsg, fd, &rest, flags | MSG_DONTWAIT);
  }
  return long(walk.done());
}

// Connections wait in a listening socket; any other is told apart by accept(2) itself, at once.
long accept_any(int fd, sockaddr* from, socklen_t* len, int flags) noexcept {
  auto attempt = [&]() noexcept -> long {
    if (!ready_now(fd, POLLIN)) {
      int listening = 0;
      socklen_t n = sizeof listening;
      if (sys::call(SYS_getsockopt, fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) == 0 && listening) return -EAGAIN;
    }
    return sys::call(SYS_accept4, fd, from, len, flags);
  };
  return until_done(fd, EPOLLIN, SO_RCVTIMEO, attempt);
}

msghdr message_of(iovec& v, void* name, socklen_t len) noexcept {
  msghdr m{};
  m.msg_name = name;
  m.msg_namelen = len;
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  return m;
}

}  // namespace

ssize_t recv(int fd, void* buf, size_t n, int flags) {
  if (!cooperative() || (flags & MSG_DONTWAIT)) return real.recv(fd, buf, n, flags);
  return posix::recvfrom(fd, buf, n, flags, nullptr, nullptr);
}

ssize_t recvfrom(int fd, void* buf, size_t n, int flags, sockaddr* from, socklen_t* len) {
  if (!cooperative() || (flags & MSG_DONTWAIT)) return real.recvfrom(fd, buf, n, flags, from, len);
  if (!(flags & MSG_WAITALL)) {
    return result(until_done(fd, EPOLLIN, SO_RCVTIMEO, [&]() noexcept {
      return sys::call(SYS_recvfrom, fd, buf, n, flags | MSG_DONTWAIT, from, len);
    }));
  }
  iovec v{buf, n};
  msghdr m = message_of(v, from, from && len ? *len : 0);
  long r = receive(fd, &m, flags);
  if (r >= 0 && from && len) *len = m.msg_namelen;
  return result(r);
}

ssize_t recvmsg(int fd, msghdr* m, int flags) {
  if (!cooperative() || (flags & MSG_DONTWAIT)) return real.recvmsg(fd, m, flags);
  return result(receive(fd, m, flags));
}

int recvmmsg(int fd, mmsghdr* m, unsigned n, int flags, timespec* timeout) {
  if (!cooperative() || (flags & MSG_DONTWAIT)) return real.recvmmsg(fd, m, n, flags, timeout);
  // As in the kernel, the time-out is looked at only after each datagram.
  if (!valid(timeout)) return real.recvmmsg(fd, m, n, flags, timeout);
  deadline until = time_from_now(timeout);
  bool one = flags & MSG_WAITFORONE;
  unsigned got = 0;
  long r = 0;
  while (got < n) {
    auto attempt = [&]() noexcept { return sys::call(SYS_recvmmsg, fd, m + got, n - got, flags | MSG_DONTWAIT, 0); };
    r = one && got ? attempt() : until_done(fd, EPOLLIN, SO_RCVTIMEO, attempt);
    if (r <= 0) break;
    got += unsigned(r);
    if (!until.is_never()) {
      *timeout = time_left(until);
      if (timeout->tv_sec == 0 && timeout->tv_nsec == 0) break;
    }
    if (one) break;
  }
  return got ? int(got) : result<int>(r);
}

ssize_t send(int fd, const void* buf, size_t n, int flags) {
  if (!cooperative() || (flags & MSG_DONTWAIT)) return real.send(fd, buf, n, flags);
  iovec v{const_cast<void*>(buf), n};
  msghdr m = message_of(v, nullptr, 0);
  return result(send_all(fd, &m, flags));
}

ssize_t sendto(int fd, const void* buf, size_t n, int flags, const sockaddr* to, socklen_t len) {
  if (!cooperative() || (flags & MSG_DONTWAIT)) return real.sendto(fd, buf, n, flags, to, len);
  iovec v{const_cast<void*>(buf), n};
  msghdr m = message_of(v, const_cast<sockaddr*>(to), to ? len : 0);
  return result(send_all(fd, &m, flags));
}

ssize_t sendmsg(int fd, const msghdr* m, int flags) {
  if (!cooperative() || (flags & MSG_DONTWAIT)) return real.sendmsg(fd, m, flags);
  return result(send_all(fd, m, flags));
}

int sendmmsg(int fd, mmsghdr* m, unsigned n, int flags) {
  if (!cooperative() || (flags & MSG_DONTWAIT)) return real.sendmmsg(fd, m, n, flags);
  if (n > 1024) n = 1024;  // UIO_MAXIOV, as the kernel
  for (unsigned i = 0; i < n; i++) {
    long r = send_all(fd, &m[i].msg_hdr, flags);
    if (r < 0) return i ? int(i) : result<int>(r);
    m[i].msg_len = unsigned(r);
  }
  return int(n);
}

int socket(int domain, int type, int protocol) {
  int fd = real.socket(domain, type, protocol);
  if (fd >= 0 && core::current) core::descriptors::made_private(fd);
  return fd;
}

int accept(int fd, sockaddr* from, socklen_t* len) {
  if (!cooperative()) return real.accept(fd, from, len);
  return result<int>(accept_any(fd, from, len, 0));
}

int accept4(int fd, sockaddr* from, socklen_t* len, int flags) {
  if (!cooperative()) return real.accept4(fd, from, len, flags);
  return result<int>(accept_any(fd, from, len, flags));
}

}  // namespace tendril::posix
