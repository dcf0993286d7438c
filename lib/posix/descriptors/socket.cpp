// Sockets: receiving, sending, accepting. MSG_DONTWAIT is the non-blocking form; accept(2) has none
// and is polled first.
#include <tendril/posix.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include "posix/common/offload.hpp"
#include "posix/descriptors/close.hpp"
#include "posix/descriptors/file_kind.hpp"
#include "posix/descriptors/iovec_cursor.hpp"
#include "posix/descriptors/ring_receive.hpp"
#include "posix/descriptors/wait.hpp"

namespace tendril::posix {

namespace {

// Urgent bytes of a stream and error queues (where the flag has a meaning) are returned at once, or
// not at all.
bool never_waits(int fd, int flags) noexcept {
  if ((flags & MSG_OOB) && socket_option(fd, SO_TYPE) == SOCK_STREAM) return true;
  if (!(flags & MSG_ERRQUEUE)) return false;
  int domain = socket_option(fd, SO_DOMAIN);
  return domain != AF_UNIX && domain != AF_NETLINK;
}

// Whether SO_RCVLOWAT was ever set on any socket. (A socket inherited through exec is not noticed.)
std::atomic<bool> low_marks{false};

// How many bytes a receive from a stream waits for.
std::size_t bytes_to_wait_for(int fd, int flags) noexcept {
  if (flags & MSG_WAITALL) return SIZE_MAX;
  int lowest = socket_option(fd, SO_RCVLOWAT);
  return lowest > 1 ? std::size_t(lowest) : 1;
}
bool waits_for_more(int fd, int flags) noexcept {
  return ((flags & MSG_WAITALL) || low_marks.load(std::memory_order_relaxed)) &&
         socket_option(fd, SO_TYPE) == SOCK_STREAM;
}

// Whether the next byte of a stream follows urgent data: a receive does not go past that mark.
bool at_mark(int fd) noexcept {
  int at = 0;
  return sys::call(SYS_ioctl, fd, SIOCATMARK, &at) == 0 && at;
}

// Reading urgent bytes leaves the mark, where receives stop, and afterwards nothing shows that it
// is there.
void note_urgent(int flags) noexcept {
  if (flags & MSG_OOB) [[unlikely]]
    core::stream_state::may_stop();
}

struct control_found {
  bool descriptors = false, sender = false;
};
control_found look_at_control(const msghdr& m) noexcept {
  control_found found;
  std::size_t at = 0;
  while (m.msg_control && m.msg_controllen - at >= sizeof(cmsghdr) && at <= m.msg_controllen) {
    cmsghdr c;
    __builtin_memcpy(&c, static_cast<const char*>(m.msg_control) + at, sizeof c);
    if (c.cmsg_level == SOL_SOCKET && c.cmsg_type == SCM_RIGHTS) found.descriptors = true;
    if (c.cmsg_level == SOL_SOCKET && c.cmsg_type == SCM_CREDENTIALS) found.sender = true;
    if (c.cmsg_len < sizeof c) break;
    at += CMSG_ALIGN(c.cmsg_len);
  }
  return found;
}

// Receives from a stream until `enough` bytes have come, the peer has closed, or an error. As in
// the kernel, it also ends where urgent data, descriptors or another sender begin. Requires that
// `m` is readable.
long receive_stream(int fd, msghdr* m, int flags, std::size_t enough) noexcept {
  const msghdr whole = *m;
  long r = sys::call(SYS_recvmsg, fd, m, flags | MSG_DONTWAIT);
  if (r == 0 || (r < 0 && r != -EAGAIN)) return r;
  vector_walk walk(whole.msg_iov, int(whole.msg_iovlen));
  if (enough > walk.total()) enough = walk.total();
  if (!blocks(fd) || r >= long(enough)) return r;
  bool unix_domain = socket_option(fd, SO_DOMAIN) == AF_UNIX;
  if ((flags & MSG_PEEK) && unix_domain && r > 0) return r;
  deadline until = socket_deadline(fd, SO_RCVTIMEO);
  on_signal rule = until.is_never() ? on_signal::restart : on_signal::always;
  msghdr last = *m;
  long peeked = 0;
  auto so_far = [&](long otherwise) noexcept {
    long have = flags & MSG_PEEK ? peeked : long(walk.done());
    return have ? have : otherwise;
  };
  for (;;) {
    if (r > 0 && (flags & MSG_PEEK)) {
      // Peeking begins at the front each time; return what is there when it is enough.
      peeked = r;
      if (r >= long(enough) || unix_domain || at_mark(fd) || ready_now(fd, POLLRDHUP)) break;
    } else if (r > 0) {
      if (!walk.advance(std::size_t(r)) || walk.done() >= enough || at_mark(fd)) break;
      control_found found = look_at_control(last);
      // With SO_PASSCRED, data that is there but was not returned is from another sender.
      if (found.descriptors || (found.sender && ready_now(fd, POLLIN))) break;
    } else if (r != -EAGAIN) {
      return so_far(r);
    }
    if (r == -EAGAIN || (flags & MSG_PEEK)) {
      int w = wait_for(fd, EPOLLIN | EPOLLRDHUP, until, rule);
      if (w < 0) return so_far(w == -ETIMEDOUT ? -EAGAIN : w);
    }
    last = whole;
    if (walk.done()) {
      last.msg_iov = const_cast<iovec*>(walk.data());
      last.msg_iovlen = std::size_t(walk.size());
    }
    r = sys::call(SYS_recvmsg, fd, &last, flags | MSG_DONTWAIT);
    if (r > 0) {
      m->msg_namelen = last.msg_namelen;
      m->msg_controllen = last.msg_controllen;
      m->msg_flags = last.msg_flags;
    }
  }
  return so_far(r);
}

// recvmsg(2); all receiving is based on it.
long receive(int fd, msghdr* m, int flags) noexcept {
  auto attempt = [&]() noexcept { return sys::call(SYS_recvmsg, fd, m, flags | MSG_DONTWAIT); };
  if ((flags & (MSG_OOB | MSG_ERRQUEUE)) && never_waits(fd, flags)) return attempt();
  if (waits_for_more(fd, flags) && sys::readable(m, sizeof *m)) {
    return receive_stream(fd, m, flags, bytes_to_wait_for(fd, flags));
  }
  if (flags & MSG_PEEK) return until_done(fd, EPOLLIN, SO_RCVTIMEO, attempt);
  return until_received(
      fd, [&]() noexcept { return vector_walk(m->msg_iov, int(m->msg_iovlen)).total(); }, attempt);
}

// Whether `m` was refused because the queue of its destination is full. The kernel reports room
// there only to sockets that are connected to it.
bool waits_for_receiver(int fd, const msghdr& m) noexcept {
  return m.msg_name && m.msg_namelen && socket_option(fd, SO_DOMAIN) == AF_UNIX &&
         socket_option(fd, SO_TYPE) == SOCK_DGRAM && ready_now(fd, POLLOUT);
}

// The common part of all sending. `first` is the first attempt, which does not wait. A blocking
// send on a stream returns when everything is in the buffer. If `first` succeeds or would block,
// `m` must be readable.
template <class First>
long send_all(int fd, const msghdr* m, int flags, First first) noexcept {
  long r = first();
  if (r < 0 && r != -EAGAIN) return r;
  vector_walk walk(m->msg_iov, int(m->msg_iovlen));
  if (r >= 0 && std::size_t(r) >= walk.total()) {
    my_hub().charge_budget();
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
      rest.msg_control = nullptr;  // was sent with the first bytes
      rest.msg_controllen = 0;
      flags |= MSG_NOSIGNAL;  // no SIGPIPE for a call that has sent something
      my_hub().charge_budget();
    } else if (r < 0 && r != -EAGAIN) {
      return walk.done() ? long(walk.done()) : r;
    } else if (waits_for_receiver(fd, rest)) {
      return offload_interruptible([&] { return sys::call(SYS_sendmsg, fd, &rest, flags); }, rule);
    } else {
      int w = wait_for(fd, EPOLLOUT, until, rule);
      if (w < 0) return walk.done() ? long(walk.done()) : w == -ETIMEDOUT ? -EAGAIN : w;
      if (walk.done() && hung_up(fd)) break;  // the next call reports why
    }
    r = sys::call(SYS_sendmsg, fd, &rest, flags | MSG_DONTWAIT);
    if (r == 0) break;
  }
  return walk.done() ? long(walk.done()) : r;
}

long send_message(int fd, const msghdr* m, int flags) noexcept {
  return send_all(fd, m, flags, [&]() noexcept {
    long r = sys::call(SYS_sendmsg, fd, m, flags | MSG_DONTWAIT);
    // may contain SCM_RIGHTS
    if ((r >= 0 || r == -EAGAIN) && m->msg_controllen) core::descriptors::shared();
    return r;
  });
}

// Whether a descriptor number is free: the kernel's accept(2) reserves one before it waits. 0, or
// -EMFILE.
long look_for_number(int fd) noexcept {
  long copy = sys::call_if_allowed(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 0);
  if (copy >= 0) sys::close(int(copy));
  return copy == -EMFILE || copy == -EINVAL ? -EMFILE : 0;  // -EINVAL: RLIMIT_NOFILE is 0
}

// Waits only for listening sockets; accept(2) itself rejects others at once.
long accept_any(int fd, sockaddr* from, socklen_t* len, int flags) noexcept {
  bool looked = false;
  auto attempt = [&]() noexcept -> long {
    if (!(flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) && !ready_now(fd, POLLIN) &&
        (socket_option(fd, SO_ACCEPTCONN) > 0 || sys::is_refused(SYS_getsockopt))) {
      if (!looked && look_for_number(fd) < 0) return -EMFILE;
      looked = true;
      return -EAGAIN;
    }
    return flags ? sys::call(SYS_accept4, fd, from, len, flags)
                 : sys::call(SYS_accept, fd, from, len);
  };
  return until_done(fd, EPOLLIN, SO_RCVTIMEO, attempt);
}

// For a new socket, which no other code knows yet.
int made(int fd) noexcept {
  if (fd < 0 || !core::current || !in_hubs_process()) return fd;
  core::descriptors::made_private(fd);
  return fd;
}

int accepted(int fd, int listener) noexcept {
  if (made(fd) < 0 || !core::current || !in_hubs_process()) return fd;
  file_kind k = kind_of(listener);  // a connection has its listener's type
  if (is_socket(k)) note_kind(fd, k);
  return fd;
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

bool receives_by_mark(int fd) noexcept {
  return low_marks.load(std::memory_order_relaxed) && is_socket(kind_of(fd));
}

int setsockopt(int fd, int level, int name, const void* value, socklen_t n) {
  if (level == SOL_SOCKET && name == SO_RCVLOWAT) {
    low_marks.store(true, std::memory_order_relaxed);
    core::stream_state::may_stop();
  }
  if (level == IPPROTO_TCP && name == TCP_ULP) core::stream_state::may_stop();
  if (level == SOL_SOCKET && name == SO_LINGER) sockets_may_linger();
  int r = real.setsockopt(fd, level, name, value, n);
  // Both forms of each option, for 32-bit and 64-bit times.
  if (level == SOL_SOCKET &&
      (name == SO_RCVTIMEO || name == SO_SNDTIMEO || name == 66 || name == 67)) {
    core::descriptors::modes_changed();
  }
  return r;
}

namespace {

[[gnu::always_inline]] inline ssize_t receive_usually(int fd, void* buf, size_t n, int flags,
                                                      sockaddr* from, socklen_t* len) noexcept {
  return result(until_received(
      fd, [=]() noexcept { return n < vector_walk::most ? n : vector_walk::most; },
      [=]() noexcept {
        return sys::call(SYS_recvfrom, fd, buf, n, flags | MSG_DONTWAIT, from, len);
      }));
}

// Receives with flags or low-water marks, which change the call.
[[gnu::noinline]] ssize_t receive_specially(int fd, void* buf, size_t n, int flags, sockaddr* from,
                                            socklen_t* len) noexcept {
  auto attempt = [=]() noexcept {
    return sys::call(SYS_recvfrom, fd, buf, n, flags | MSG_DONTWAIT, from, len);
  };
  if ((flags & (MSG_OOB | MSG_ERRQUEUE)) && never_waits(fd, flags)) return result(attempt());
  if (waits_for_more(fd, flags) && (!from || (len && sys::readable_int(len)))) {
    iovec v{buf, n};
    msghdr m = message_of(v, from, from ? *len : 0);
    long r = receive_stream(fd, &m, flags, bytes_to_wait_for(fd, flags));
    if (r >= 0 && from) *len = m.msg_namelen;
    return result(r);
  }
  if (flags & MSG_PEEK) return result(until_done(fd, EPOLLIN, SO_RCVTIMEO, attempt));
  return receive_usually(fd, buf, n, flags, from, len);
}

[[gnu::always_inline]] inline ssize_t receive_bytes(int fd, void* buf, size_t n, int flags,
                                                    sockaddr* from, socklen_t* len) noexcept {
  bool special = flags & (MSG_OOB | MSG_ERRQUEUE | MSG_PEEK | MSG_WAITALL);
  if (special || low_marks.load(std::memory_order_relaxed)) [[unlikely]] {
    return receive_specially(fd, buf, n, flags, from, len);
  }
  if (!flags && !from && my_hub().io.wants_ring()) [[unlikely]] {
    if (long r = receive_by_ring(fd, buf, n); r != core::not_by_ring) return result(r);
  }
  return receive_usually(fd, buf, n, flags, from, len);
}

// Continues a send of which the kernel has taken r bytes, perhaps not all.
[[gnu::noinline]] ssize_t send_rest(int fd, const void* buf, size_t n, int flags,
                                    const sockaddr* to, socklen_t len, long r) noexcept {
  iovec v{const_cast<void*>(buf), n};
  msghdr m = message_of(v, const_cast<sockaddr*>(to), to ? len : 0);
  return result(send_all(fd, &m, flags, [=]() noexcept { return r; }));
}

[[gnu::always_inline]] inline ssize_t send_bytes(int fd, const void* buf, size_t n, int flags,
                                                 const sockaddr* to, socklen_t len) noexcept {
  long r = sys::call(SYS_sendto, fd, buf, n, flags | MSG_DONTWAIT, to, len);
  if (r != long(n)) [[unlikely]]
    return send_rest(fd, buf, n, flags, to, len, r);
  my_hub().charge_budget();
  return r;
}

}  // namespace

ssize_t recv(int fd, void* buf, size_t n, int flags) {
  note_urgent(flags);
  if (!cooperative() || (flags & MSG_DONTWAIT)) return real.recv(fd, buf, n, flags);
  return receive_bytes(fd, buf, n, flags, nullptr, nullptr);
}

ssize_t recvfrom(int fd, void* buf, size_t n, int flags, sockaddr* from, socklen_t* len) {
  note_urgent(flags);
  if (!cooperative() || (flags & MSG_DONTWAIT)) return real.recvfrom(fd, buf, n, flags, from, len);
  return receive_bytes(fd, buf, n, flags, from, len);
}

ssize_t recvmsg(int fd, msghdr* m, int flags) {
  note_urgent(flags);
  if (!cooperative() || (flags & MSG_DONTWAIT)) return real.recvmsg(fd, m, flags);
  return result(receive(fd, m, flags));
}

int recvmmsg(int fd, mmsghdr* m, unsigned n, int flags, timespec* timeout) {
  note_urgent(flags);
  if (!cooperative() || (flags & MSG_DONTWAIT)) return real.recvmmsg(fd, m, n, flags, timeout);
  // Like the kernel, check the time-out only after each datagram.
  if ((timeout && !sys::readable(timeout, sizeof *timeout)) || !valid(timeout))
    return real.recvmmsg(fd, m, n, flags, timeout);
  deadline until = time_from_now(timeout);
  bool one = flags & MSG_WAITFORONE;
  unsigned got = 0;
  long r = 0;
  while (got < n) {
    auto attempt = [&]() noexcept {
      return sys::call(SYS_recvmmsg, fd, m + got, n - got, flags | MSG_DONTWAIT, 0);
    };
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
  return send_bytes(fd, buf, n, flags, nullptr, 0);
}

ssize_t sendto(int fd, const void* buf, size_t n, int flags, const sockaddr* to, socklen_t len) {
  if (!cooperative() || (flags & MSG_DONTWAIT)) return real.sendto(fd, buf, n, flags, to, len);
  return send_bytes(fd, buf, n, flags, to, len);
}

ssize_t sendmsg(int fd, const msghdr* m, int flags) {
  if (!cooperative() || (flags & MSG_DONTWAIT)) return real.sendmsg(fd, m, flags);
  return result(send_message(fd, m, flags));
}

int sendmmsg(int fd, mmsghdr* m, unsigned n, int flags) {
  if (!cooperative() || (flags & MSG_DONTWAIT)) return real.sendmmsg(fd, m, n, flags);
  if (n > 1024) n = 1024;  // UIO_MAXIOV, as the kernel
  for (unsigned i = 0; i < n; i++) {
    // The first attempt is the kernel's own call, which checks the array.
    long r = send_all(fd, &m[i].msg_hdr, flags, [&]() noexcept -> long {
      long sent = sys::call(SYS_sendmmsg, fd, m + i, 1, flags | MSG_DONTWAIT);
      if ((sent >= 0 || sent == -EAGAIN) && m[i].msg_hdr.msg_controllen)
        core::descriptors::shared();
      return sent < 0 ? sent : long(m[i].msg_len);
    });
    if (r < 0) return i ? int(i) : result<int>(r);
    m[i].msg_len = unsigned(r);
  }
  return int(n);
}

int socket(int domain, int type, int protocol) {
  int fd = made(real.socket(domain, type, protocol));
  if (fd < 0 || !core::current || !in_hubs_process()) return fd;
  int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
  note_kind(fd, kind_of_socket(kind));
  if (!(type & SOCK_NONBLOCK)) core::descriptors::made_waiting(fd);
  bool stream = kind == SOCK_STREAM && (protocol == 0 || protocol == IPPROTO_TCP);
  if (stream && (domain == AF_INET || domain == AF_INET6)) core::descriptors::made_inet_stream(fd);
  return fd;
}

int accept(int fd, sockaddr* from, socklen_t* len) {
  return accepted(
      cooperative() ? result<int>(accept_any(fd, from, len, 0)) : real.accept(fd, from, len), fd);
}

int accept4(int fd, sockaddr* from, socklen_t* len, int flags) {
  return accepted(cooperative() ? result<int>(accept_any(fd, from, len, flags))
                                : real.accept4(fd, from, len, flags),
                  fd);
}

}  // namespace tendril::posix
