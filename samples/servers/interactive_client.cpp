// A client that prompts for a line, sends it, and prints the answer, until its input ends. (There,
// Python's input() raises EOFError, and the tutorial's program ends with a traceback; this one ends
// its line and exits with status 0.)
//
//   interactive_client [PORT]   on 127.0.0.1; 8001

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <system_error>
#include <tendril/net/create_connection.hpp>

#include "../python_text.hpp"

int main(int argc, char** argv) try {
  auto port = static_cast<std::uint16_t>(argc > 1 ? std::atoi(argv[1]) : 8001);
  tendril::net::socket s = tendril::net::create_connection(tendril::net::address::loopback(port));
  for (;;) {
    std::printf(">>:");
    std::fflush(stdout);
    std::string msg;
    // blocking is harmless here, since there is no other task
    if (!std::getline(std::cin, msg)) break;
    s.send_all(msg);
    std::string data = s.recv(1024);
    std::printf("Received %s\n", python::bytes_repr(data).c_str());
  }
  std::printf("\n");
} catch (const std::system_error& e) {
  std::fprintf(stderr, "interactive_client: %s\n", e.what());
  return 1;
}
