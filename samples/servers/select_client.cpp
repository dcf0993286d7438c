// The client of select_server: two connections, and a message in parts over each.
//
//   select_client [PORT]   on 127.0.0.1; 10000

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <system_error>
#include <tendril/net/create_connection.hpp>

#include "../python_text.hpp"

int main(int argc, char** argv) try {
  auto port = static_cast<std::uint16_t>(argc > 1 ? std::atoi(argv[1]) : 10000);
  auto server = tendril::net::address::loopback(port);
  // The tutorial passes sys.stderr as the first object to print.
  std::printf("%s connecting to localhost port %u\n", python::stderr_repr, port);
  std::array socks{tendril::net::create_connection(server),
                   tendril::net::create_connection(server)};

  for (const char* message : {"This is the message. ", "It will be sent ", "in parts."}) {
    for (auto& s : socks) {
      std::printf("%s %s: sending \"%s\"\n", python::stderr_repr,
                  python::repr(s.local_address()).c_str(), message);
      s.send(message);
    }
    for (auto& s : socks) {
      std::string data = s.recv(1024);
      std::printf("%s %s: received \"%s\"\n", python::stderr_repr,
                  python::repr(s.local_address()).c_str(), python::bytes_repr(data).c_str());
      if (data.empty()) {
        std::printf("%s closing socket %s\n", python::stderr_repr,
                    python::repr(s.local_address()).c_str());
        s.close();
      }
    }
  }
} catch (const std::system_error& e) {
  std::fprintf(stderr, "select_client: %s\n", e.what());
  return 1;
}
