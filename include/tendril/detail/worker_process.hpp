// Processes that make calls for their parent, and the server that forks them. Not for programs.
//
// The server is forked once, when the pool is made, and from then on forks the workers: so they
// start from a process that has one kernel thread, whatever the program does meanwhile. All of them
// have the program's code at the same addresses, so a call travels as the address of a function
// that reads its arguments from bytes.
//
// A worker is asked over a socket of its own: a request is a length and that many bytes, and so is
// the response. At the end of its socket it ends, and so does the server: when the program goes,
// whichever way, so do they.
#pragma once

#include <cxxabi.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <memory>
#include <new>
#include <string>
#include <system_error>
#include <typeinfo>

#include "../posix.hpp"
#include "../serializer.hpp"
#include "../task.hpp"
#include "descriptor.hpp"
#include "remote_error.hpp"

namespace tendril::detail {

inline void socket_pair(int type, owned_fd& a, owned_fd& b) {
  int fds[2];
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) < 0)
    throw std::system_error(errno, std::generic_category(), "socketpair");
  a = owned_fd(fds[0]);
  b = owned_fd(fds[1]);
}

// All of n bytes, or false: the other end is gone.
inline bool send_fully(int fd, const void* p, std::size_t n) noexcept {
  auto* at = static_cast<const char*>(p);
  while (n > 0) {
    ssize_t sent = posix::send(fd, at, n, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    at += sent;
    n -= std::size_t(sent);
  }
  return true;
}
inline bool receive_fully(int fd, void* p, std::size_t n) noexcept {
  auto* at = static_cast<char*>(p);
  while (n > 0) {
    ssize_t got = posix::recv(fd, at, n, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += got;
    n -= std::size_t(got);
  }
  return true;
}
inline bool send_frame(int fd, const std::string& bytes) noexcept {
  std::uint64_t n = bytes.size();
  return send_fully(fd, &n, sizeof n) && send_fully(fd, bytes.data(), n);
}
inline bool receive_frame(int fd, std::string& bytes) {
  std::uint64_t n;
  if (!receive_fully(fd, &n, sizeof n)) return false;
  bytes.resize(n);
  return receive_fully(fd, bytes.data(), n);
}

// One descriptor, over a socket of messages. -1: none came, the other end is gone.
inline bool send_descriptor(int over, int fd) noexcept {
  char byte = 0;
  iovec v{&byte, 1};
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof fd)] = {};
  msghdr m{};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = room;
  m.msg_controllen = sizeof room;
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(c), &fd, sizeof fd);
  ssize_t r;
  do r = posix::sendmsg(over, &m, MSG_NOSIGNAL);
  while (r < 0 && errno == EINTR);
  return r > 0;
}
inline int receive_descriptor(int over) noexcept {
  char byte;
  iovec v{&byte, 1};
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int))] = {};
  msghdr m{};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = room;
  m.msg_controllen = sizeof room;
  ssize_t r;
  do r = posix::recvmsg(over, &m, MSG_CMSG_CLOEXEC);
  while (r < 0 && errno == EINTR);
  cmsghdr* c = r > 0 ? CMSG_FIRSTHDR(&m) : nullptr;
  if (!c || c->cmsg_type != SCM_RIGHTS) return -1;
  int fd;
  std::memcpy(&fd, CMSG_DATA(c), sizeof fd);
  return fd;
}

// Reads the arguments of a call, makes it, and writes its result.
using call_from_bytes = void (*)(byte_source&, byte_sink&);

// Makes the call of a request: a response of "true" and the result, or "false" and the error.
inline std::string answer(const std::string& request) {
  byte_sink result;
  try {
    byte_source from(request);
    auto call = from.read<call_from_bytes>();
    result << true;
    call(from, result);
  } catch (...) {
    result = {};
    result << false;
    write_error(result, std::current_exception());
  }
  return std::move(result).bytes();
}

[[noreturn]] inline void work(int fd) noexcept {
  ::signal(SIGCHLD, SIG_DFL);
  // Calls get a stack like a thread's, and fibers beside them if they want some.
  spawn({.stack_size = 8 << 20, .name = "worker"}, [fd] {
    for (std::string request; receive_frame(fd, request);) {
      std::string response = answer(request);
      std::cout << std::flush;
      std::fflush(nullptr);
      if (!send_frame(fd, response)) break;
    }
  }).join();
  ::_exit(0);
}

[[noreturn]] inline void serve_forks(int control) noexcept {
  // Nothing of what the program has open stays open here: its sockets would never be seen to close.
  if (control > 3) posix::close_range(3, unsigned(control) - 1, 0);
  posix::close_range(unsigned(control) + 1, ~0u, 0);
  owned_fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null) posix::dup2(null.get(), 0);
  null.reset();
  ::signal(SIGCHLD, SIG_IGN);  // the kernel reaps
  ::signal(SIGINT, SIG_IGN);   // from the terminal: the program decides
  for (;;) {
    owned_fd fd(receive_descriptor(control));
    if (!fd) ::_exit(0);
    if (::fork() == 0) {
      posix::close(control);
      work(fd.get());
    }
    // If there is no process, the program sees its end of the socket close.
  }
}

// The program's side of the server.
class fork_server {
 public:
  // std::system_error: no process can be made.
  fork_server() {
    owned_fd theirs;
    socket_pair(SOCK_SEQPACKET, control_, theirs);
    std::cout << std::flush;  // or a child would write it again
    std::fflush(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) serve_forks(theirs.get());
    if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  }
  // Ends when its workers' requests have: none are taken any more.
  ~fork_server() {
    control_.reset();
    pid_t r;
    do r = posix::waitpid(pid_, nullptr, 0);
    while (r < 0 && errno == EINTR);
  }
  fork_server(const fork_server&) = delete;

  // The socket of a new worker; none if the server is gone.
  owned_fd new_worker() {
    owned_fd ours, theirs;
    socket_pair(SOCK_STREAM, ours, theirs);
    return send_descriptor(control_.get(), theirs.get()) ? std::move(ours) : owned_fd();
  }
  pid_t pid() const noexcept { return pid_; }

 private:
  owned_fd control_;
  pid_t pid_ = -1;
};

}  // namespace tendril::detail
