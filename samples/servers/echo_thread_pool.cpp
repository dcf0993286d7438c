// Echo server, third of seven ways: a pool of kernel threads. Clients beyond their number wait for
// one that is free.

#include <string>
#include <system_error>
#include <tendril/thread_pool_executor.hpp>

#include "listen.hpp"

namespace {

void echo(tendril::net::socket client) try {
  for (std::string data; !(data = client.recv(4096)).empty();) client.send_all(data);
} catch (const std::system_error&) {
  // The client is gone.
}

}  // namespace

int main(int argc, char** argv) {
  tendril::net::socket listener = listen_on_argument(argc, argv);
  tendril::thread_pool_executor pool(8);
  for (;;) pool.submit(echo, listener.accept());
}
