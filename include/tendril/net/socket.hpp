// Sockets: an owned descriptor with the calls of socket(2). A call that waits parks its fiber.
//
//   tendril::net::socket s(AF_INET, SOCK_STREAM);
//   s.connect(tendril::net::address::loopback(7000));
//   s.send_all("hello\n");
//   std::string reply = s.recv(4096);
//
// Errors are thrown as std::system_error with the call's errno. A signal handler does not end a
// call (PEP 475). Every wait is a cancellation point. Any kernel thread may use a socket; closing
// it ends the waits of other fibers with EBADF. (Python's and gevent's socket.socket)
#pragma once

#include "../detail/cxx20.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "../detail/descriptor.hpp"
#include "../stream.hpp"
#include "address.hpp"

namespace tendril::net {

class [[nodiscard("the socket is closed at once unless it has a name")]] socket {
 public:
  // No socket: every call fails with EBADF.
  socket() noexcept = default;
  // Makes a new socket, which is closed on exec.
  socket(int family, int type, int protocol = 0)
      : socket(made(detail::checked_call(
            "socket", [&] { return posix::socket(family, type | SOCK_CLOEXEC, protocol); }))) {}
  // Owns the given descriptor from now on; it should be a blocking one.
  static socket adopt(int fd) noexcept {
    socket s;
    s.fd_ = detail::owned_fd(fd);
    return s;
  }
  // The same for a descriptor that was just made and whose number no other code knows.
  static socket made(int fd) noexcept {
    core::keep_descriptor(fd);
    return adopt(fd);
  }
  socket(socket&&) noexcept = default;
  socket& operator=(socket&&) noexcept = default;
  // Closes the socket.
  ~socket() = default;

  // The descriptor; -1 if there is none. Code that knows it can change how the socket waits, so
  // from now on each wait first checks that, which costs some system calls.
  int descriptor() const noexcept {
    core::reveal_descriptor(fd_.get());
    return fd_.get();
  }
  // Returns the descriptor and gives up its ownership without closing it.
  [[nodiscard("the caller has to close the descriptor")]] int release() noexcept {
    core::reveal_descriptor(fd_.get());
    return fd_.release();
  }
  explicit operator bool() const noexcept { return bool(fd_); }
  // Closes the socket; fibers that wait for it wake with EBADF. May be called again.
  void close() noexcept { fd_.reset(); }

  // bind(2), listen(2).
  void bind(const address& a) {
    detail::checked_call("bind", [&] { return ::bind(fd_.get(), a.data(), a.size()); });
  }
  void listen(int backlog = SOMAXCONN) {
    detail::checked_call("listen", [&] { return ::listen(fd_.get(), backlog); });
  }
  // Waits for a connection and returns its socket. The peer is its remote_address().
  socket accept() {
    return made(detail::checked_call(
        "accept", [&] { return posix::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC); }));
  }
  // Waits until connected. If this throws, the socket can only be closed.
  void connect(const address& a) {
    if (posix::connect(fd_.get(), a.data(), a.size()) == 0) return;
    if (errno == EINTR) return await_connected();
    if (errno == EINPROGRESS) errno = ETIMEDOUT;  // SO_SNDTIMEO
    detail::throw_errno("connect");
  }

  // Receives at most n bytes and returns their number; waits for the first byte. 0 at the end of
  // the stream.
  [[nodiscard("it is the number of bytes received")]] std::size_t recv(void* to, std::size_t n,
                                                                       int flags = 0) {
    return std::size_t(
        detail::checked_call("recv", [&] { return posix::recv(fd_.get(), to, n, flags); }));
  }
  std::string recv(std::size_t n) {
    std::string s(n, '\0');
    s.resize(recv(s.data(), n));
    return s;
  }
  // Sends data and returns the number of bytes sent: on a stream, all of them, unless a time-out
  // ends the wait. Throws EPIPE without raising SIGPIPE.
  std::size_t send(std::string_view data, int flags = 0) {
    return std::size_t(detail::checked_call("send", [&] {
      return posix::send(fd_.get(), data.data(), data.size(), flags | MSG_NOSIGNAL);
    }));
  }
  // Sends all of the data.
  void send_all(std::string_view data) {
    while (!data.empty()) data.remove_prefix(send(data));
  }
  // Waits for a datagram; returns it and its sender. Bytes beyond n are cut off.
  std::pair<std::string, address> recv_from(std::size_t n, int flags = 0) {
    std::string s(n, '\0');
    sockaddr_storage from{};
    socklen_t length = 0;
    auto got = detail::checked_call("recvfrom", [&] {
      length = sizeof from;
      return posix::recvfrom(fd_.get(), s.data(), n, flags, reinterpret_cast<sockaddr*>(&from),
                             &length);
    });
    s.resize(std::size_t(got));
    return {std::move(s),
            address(reinterpret_cast<sockaddr*>(&from), std::min<socklen_t>(length, sizeof from))};
  }
  // Sends a datagram.
  void send_to(std::string_view data, const address& to, int flags = 0) {
    detail::checked_call("sendto", [&] {
      return posix::sendto(fd_.get(), data.data(), data.size(), flags | MSG_NOSIGNAL, to.data(),
                           to.size());
    });
  }
  // shutdown(2): SHUT_RD, SHUT_WR, SHUT_RDWR.
  void shutdown(int how) {
    detail::checked_call("shutdown", [&] { return ::shutdown(fd_.get(), how); });
  }

  // The socket's own address.
  address local_address() const { return ask("getsockname", ::getsockname); }
  // The peer's address. Throws ENOTCONN if there is none.
  address remote_address() const { return ask("getpeername", ::getpeername); }

  // getsockopt(2), setsockopt(2).
  template <class T = int>
  T option(int level, int name) const {
    T value{};
    socklen_t n = sizeof value;
    detail::checked_call("getsockopt",
                         [&] { return ::getsockopt(fd_.get(), level, name, &value, &n); });
    return value;
  }
  template <class T = int>
  void option(int level, int name, const T& value) {
    detail::checked_call("setsockopt", [&] {
      return posix::setsockopt(fd_.get(), level, name, &value, sizeof value);
    });
  }
  // Limits each wait of recv, accept, send and connect to `d`: then std::errc::timed_out is thrown.
  // 0: no limit. (settimeout)
  template <class Rep, class Period>
  void timeout(std::chrono::duration<Rep, Period> d) {
    auto us = std::chrono::ceil<std::chrono::microseconds>(d).count();
    timeval t{.tv_sec = us / 1'000'000, .tv_usec = us % 1'000'000};
    option(SOL_SOCKET, SO_RCVTIMEO, t);
    option(SOL_SOCKET, SO_SNDTIMEO, t);
  }
  // Whether small writes are sent at once (TCP_NODELAY).
  void no_delay(bool on) { option(IPPROTO_TCP, TCP_NODELAY, int(on)); }

 private:
  void await_connected() {
    pollfd p{fd_.get(), POLLOUT, 0};
    detail::checked_call("connect", [&] { return posix::poll(&p, 1, -1); });
    if (int e = option(SOL_SOCKET, SO_ERROR))
      throw std::system_error(e, std::generic_category(), "connect");
  }
  address ask(const char* name, int (*call)(int, sockaddr*, socklen_t*)) const {
    sockaddr_storage a{};
    socklen_t n = sizeof a;
    detail::checked_call(name,
                         [&] { return call(fd_.get(), reinterpret_cast<sockaddr*>(&a), &n); });
    return {reinterpret_cast<sockaddr*>(&a), n};
  }
  detail::owned_fd fd_;
};

// Makes two sockets that are connected to each other. (socket.socketpair)
[[nodiscard]] inline std::pair<socket, socket> socket_pair(int type = SOCK_STREAM) {
  int fds[2];
  detail::checked_call("socketpair",
                       [&] { return ::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds); });
  return {socket::made(fds[0]), socket::made(fds[1])};
}

// Makes a socket that listens on an address, with SO_REUSEADDR. Port 0: any free one, which
// local_address() returns. (gevent.socket's listeners, socket.create_server)
inline socket listen_on(const address& a, int backlog = SOMAXCONN) {
  socket s(a.family(), SOCK_STREAM);
  if (a.family() != AF_UNIX) s.option(SOL_SOCKET, SO_REUSEADDR, 1);
  s.bind(a);
  s.listen(backlog);
  return s;
}

// The transport of a stream over a socket.
class socket_transport : public transport {
 public:
  explicit socket_transport(socket s) noexcept : socket_(std::move(s)) {}
  std::size_t read_some(void* to, std::size_t n) override { return socket_.recv(to, n); }
  void write_all(std::string_view data) override { socket_.send_all(data); }
  void end_writing() override { socket_.shutdown(SHUT_WR); }
  void close() noexcept override { socket_.close(); }
  int descriptor() const noexcept override { return socket_.descriptor(); }

 private:
  socket socket_;
};

// Makes a buffered stream that owns the connected socket. (socket.makefile)
inline stream open_stream(socket s) {
  return stream(std::make_unique<socket_transport>(std::move(s)));
}

}  // namespace tendril::net
