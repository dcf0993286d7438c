// The beginning of the servers here: they listen on 127.0.0.1, on the port given as the argument,
// and print it. And accept() with the client's address.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <system_error>
#include <tendril/net/socket.hpp>
#include <tendril/posix.hpp>
#include <utility>

// `usual`: the port if there is no argument; 0: a free one. `says`: the stream to print on.
inline tendril::net::socket listen_on_argument(int argc, char** argv, std::uint16_t usual = 0,
                                               std::FILE* says = stdout) {
  auto port = argc > 1 ? static_cast<std::uint16_t>(std::atoi(argv[1])) : usual;
  tendril::net::socket listener = tendril::net::listen_on(tendril::net::address::loopback(port));
  std::fprintf(says, "listening on %s\n", listener.local_address().to_string().c_str());
  std::fflush(says);
  return listener;
}

// Python's accept(): the connection and the client's address. It is asked of accept itself, since a
// client may have reset the connection by now: then the socket no longer knows its peer.
inline std::pair<tendril::net::socket, tendril::net::address> accept_from(
    const tendril::net::socket& listener) {
  sockaddr_storage from{};
  auto* peer = reinterpret_cast<sockaddr*>(&from);
  for (;;) {
    socklen_t size = sizeof from;
    int fd = tendril::posix::accept4(listener.descriptor(), peer, &size, SOCK_CLOEXEC);
    if (fd >= 0) return {tendril::net::socket::made(fd), tendril::net::address(peer, size)};
    if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "accept");
  }
}
