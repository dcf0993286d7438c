// Echo server, sixth of seven ways: a fiber for each client, on one thread. It is the blocking code
// with one word more: spawn.

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

int main(int argc, char** argv) {
  tendril::net::socket listener = listen_on_argument(argc, argv);
  for (;;) tendril::spawn(echo, listener.accept());
}
