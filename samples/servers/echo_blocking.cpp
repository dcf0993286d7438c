// Echo server, first of seven ways: one client at a time. The next client waits until this one has
// closed.

#include <exception>
#include <string>
#include <system_error>

#include "listen.hpp"

namespace {

void echo(tendril::net::socket client) try {
  for (std::string data; !(data = client.recv(4096)).empty();) client.send_all(data);
} catch (const std::system_error&) {
  // The client has closed.
}

}  // namespace

int main(int argc, char** argv) try {
  tendril::net::socket listener = listen_on_argument(argc, argv);
  for (;;) echo(listener.accept());
} catch (const std::exception& e) {
  std::fprintf(stderr, "echo_blocking: %s\n", e.what());
  return 1;
}
