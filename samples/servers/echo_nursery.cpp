// Echo server, seventh of seven ways, in the manner of curio and trio: the clients' tasks belong to
// a nursery, a task_group. SIGTERM cancels the server: the scope ends only when all of its tasks
// have ended, so no task is left behind.

#include <csignal>
#include <exception>
#include <string>
#include <system_error>
#include <tendril/signal_handler.hpp>
#include <tendril/task_group.hpp>

#include "listen.hpp"

namespace {

void echo_client(tendril::net::socket client, const tendril::net::address& peer) {
  struct farewell {
    ~farewell() { std::puts("Connection closed"); }
  } at_the_end;
  std::printf("Connection from %s\n", peer.to_string().c_str());
  try {
    for (std::string data; !(data = client.recv(4096)).empty();) client.send_all(data);
  } catch (const std::system_error&) {
    // The client has closed.
  }
}

void echo_server(tendril::net::socket& listener) {
  tendril::with_task_group([&](tendril::task_group& nursery) {
    for (;;) {
      auto [client, peer] = accept_from(listener);
      nursery.spawn(echo_client, std::move(client), peer);
    }
  });
}

}  // namespace

int main(int argc, char** argv) try {
  tendril::net::socket listener = listen_on_argument(argc, argv);
  auto server = tendril::spawn([&] { echo_server(listener); });
  tendril::signal_handler on_terminate(SIGTERM, [&] { server.kill(); });
  server.join();
  std::puts("Server stopped");
} catch (const std::exception& e) {
  std::fprintf(stderr, "echo_nursery: %s\n", e.what());
  return 1;
}
