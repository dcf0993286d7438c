// How the echo servers here begin: they listen on 127.0.0.1, on the port that is their argument, and say so.
// Without an argument, or with 0, it is a port that is free.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <tendril/net/socket.hpp>

inline tendril::net::socket listen_on_argument(int argc, char** argv) {
  auto port = static_cast<std::uint16_t>(argc > 1 ? std::atoi(argv[1]) : 0);
  tendril::net::socket listener = tendril::net::listen_on(tendril::net::address::loopback(port));
  std::printf("listening on %s\n", listener.local_address().to_string().c_str());
  std::fflush(stdout);
  return listener;
}
