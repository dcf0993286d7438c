// The client of select_server: two connections, and a message in parts over each.
//
//   select_client PORT   on 127.0.0.1

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <system_error>
#include <tendril/net/create_connection.hpp>

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::fputs("usage: select_client PORT\n", stderr);
    return 2;
  }
  auto server = tendril::net::address::loopback(static_cast<std::uint16_t>(std::atoi(argv[1])));
  std::printf("connecting to %s\n", server.to_string().c_str());
  std::array connections{tendril::net::create_connection(server), tendril::net::create_connection(server)};
  auto name = [](auto& s) { return s.local_address().to_string(); };

  for (const char* part : {"This is the message. ", "It will be sent ", "in parts."}) {
    for (auto& s : connections) {
      std::printf("%s: sending '%s'\n", name(s).c_str(), part);
      s.send_all(part);
    }
    for (auto& s : connections) {
      std::string data = s.recv(1024);
      std::printf("%s: received '%s'\n", name(s).c_str(), data.c_str());
      if (data.empty()) throw std::system_error(ECONNRESET, std::generic_category(), "recv");
    }
  }
  for (auto& s : connections) {
    std::printf("closing socket %s\n", name(s).c_str());
    s.close();
  }
} catch (const std::system_error& e) {
  std::fprintf(stderr, "select_client: %s\n", e.what());
  return 1;
}
