// An echo server for many clients at once: one fiber for each connection, with plain blocking
// calls. It is linked against libtendril-preload.so, so accept, read and write wait in their fiber,
// not in the kernel.
//
//   echo_server [PORT]   on 127.0.0.1; without PORT, or with 0, on a free port

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <tendril/task.hpp>

#include "many_descriptors.hpp"

namespace {

[[noreturn]] void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

bool write_all(int fd, const char* data, ssize_t size) {
  while (size > 0) {
    ssize_t n = ::write(fd, data, static_cast<std::size_t>(size));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    data += n;
    size -= n;
  }
  return true;
}

// Echoes until the client has sent everything, or has closed.
void echo(int fd) {
  char buffer[4096];
  for (;;) {
    ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0 || !write_all(fd, buffer, n)) break;
  }
  ::close(fd);
}

int listen_on(int port) {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int on = 1;
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(static_cast<in_port_t>(port));
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof a;
  if (fd < 0 || ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
      ::bind(fd, reinterpret_cast<sockaddr*>(&a), size) < 0 || ::listen(fd, SOMAXCONN) < 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&a), &size) < 0)
    fail("echo_server: listen");
  std::printf("listening on 127.0.0.1:%d\n", ntohs(a.sin_port));
  std::fflush(stdout);
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE,
              // a client that closes early makes write fail, but must not end the server
              SIG_IGN);
  allow_many_descriptors();
  int listener = listen_on(argc > 1 ? std::atoi(argv[1]) : 0);
  for (;;) {
    int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) {
      tendril::spawn(echo, fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      tendril::sleep(std::chrono::milliseconds(100));  // until a client closes
    } else if (errno != EINTR && errno != ECONNABORTED) {
      fail("echo_server: accept");
    }
  }
}
