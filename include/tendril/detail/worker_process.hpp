// Processes that make calls for their parent, and the server that forks them. Not for programs.
//
// The server is forked once, when the pool is made, and forks the workers. So each worker starts
// from a process with a single kernel thread, whatever the program does meanwhile. All of them have
// the program's code at the same addresses, so a call is sent as the address of a function that
// reads its arguments from bytes.
//
// Each worker has a socket of its own. A request and its response are each a length followed by
// that many bytes. A worker ends at the end of its socket, and so does the server: both end when
// the program does, however it ends.
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

// Sends all n bytes; false if the other end is closed.
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

// Sends a descriptor over a SOCK_SEQPACKET socket. receive_descriptor() returns -1 if the other end
// is closed.
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

// Makes the requested call. The response is `true` and the result, or `false` and the error.
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
  // Calls get a stack of a thread's usual size, and may use other fibers beside it.
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
  // Close the program's descriptors here: its sockets could otherwise never be seen to close.
  if (control > 3) posix::close_range(3, unsigned(control) - 1, 0);
  posix::close_range(unsigned(control) + 1, ~0u, 0);
  owned_fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null) posix::dup2(null.get(), 0);
  null.reset();
  ::signal(SIGCHLD, SIG_IGN);  // the kernel reaps the workers
  ::signal(SIGINT, SIG_IGN);   // Ctrl-C at the terminal: the program decides
  for (;;) {
    owned_fd fd(receive_descriptor(control));
    if (!fd) ::_exit(0);
    if (::fork() == 0) {
      posix::close(control);
      work(fd.get());
    }
    // If the fork fails, the program sees its end of the socket close.
  }
}

// The program's end of the server.
class fork_server {
 public:
  // Throws std::system_error if no process can be created.
  fork_server() {
    owned_fd theirs;
    socket_pair(SOCK_SEQPACKET, control_, theirs);
    std::cout << std::flush;  // else the child would write it again
    std::fflush(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) serve_forks(theirs.get());
    if (pid_ < 0) throw std::system_error(errno, std::generic_category(), "fork");
  }
  // Returns when the server has ended, which takes no more requests after its socket is closed.
  ~fork_server() {
    control_.reset();
    pid_t r;
    do r = posix::waitpid(pid_, nullptr, 0);
    while (r < 0 && errno == EINTR);
  }
  fork_server(const fork_server&) = delete;

  // Returns the socket of a new worker; an empty one if the server is gone.
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
