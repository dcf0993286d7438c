// Echo server, third of seven ways: a pool of kernel threads. If all are busy, further clients wait
// for a free one.

#include <exception>
#include <string>
#include <system_error>
#include <tendril/thread_pool_executor.hpp>

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
  tendril::thread_pool_executor pool(8);
  for (;;) pool.submit(echo, listener.accept());
} catch (const std::exception& e) {
  std::fprintf(stderr, "echo_thread_pool: %s\n", e.what());
  return 1;
}
