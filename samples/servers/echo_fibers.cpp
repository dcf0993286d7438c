// Echo server, sixth of seven ways: a fiber for each client, on one thread. It is the blocking code
// with one word more: spawn. (In Python "selector + async/await": async functions, and a loop that
// drives them. Here any function may wait, and the selector is the library's own.)

#include <exception>
#include <string>
#include <system_error>
#include <tendril/task.hpp>

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
  for (;;) tendril::spawn(echo, listener.accept());
} catch (const std::exception& e) {
  std::fprintf(stderr, "echo_fibers: %s\n", e.what());
  return 1;
}
