// The beginning of the servers here: they listen on 127.0.0.1, on the port given as the argument,
// and print it.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <tendril/net/socket.hpp>

// `usual`: the port if there is no argument; 0: a free one. `says`: the stream to print on.
inline tendril::net::socket listen_on_argument(int argc, char** argv, std::uint16_t usual = 0,
                                               std::FILE* says = stdout) {
  auto port = argc > 1 ? static_cast<std::uint16_t>(std::atoi(argv[1])) : usual;
  tendril::net::socket listener = tendril::net::listen_on(tendril::net::address::loopback(port));
  std::fprintf(says, "listening on %s\n", listener.local_address().to_string().c_str());
  std::fflush(says);
  return listener;
}
