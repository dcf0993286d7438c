// An echo server on all cores: connections are accepted on one kernel thread, and handled by fibers
// on as many others as there are processors.
//
//   echo_cores [PORT [WORKERS]]   on 127.0.0.1; PORT 0, or none: a free port; WORKERS 0, or none:
//                                 one for each processor
//
// SIGTERM and SIGINT end it in order: clients that are being served have a second to finish. Then
// it prints how many connections each kernel thread has served.

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <mutex>
#include <system_error>
#include <tendril/net/stream_server.hpp>
#include <tendril/signal_handler.hpp>

#include "many_descriptors.hpp"

namespace {

std::mutex counting;  // of fibers, as of threads
std::map<pid_t, int> served;

void echo(tendril::net::socket client) try {
  {
    std::lock_guard hold(counting);
    served[gettid()]++;
  }
  char data[4096];
  while (std::size_t n = client.recv(data, sizeof data)) client.send_all({data, n});
} catch (const std::system_error&) {
  // The client has closed.
}

}  // namespace

int main(int argc, char** argv) try {
  allow_many_descriptors();
  auto port = static_cast<std::uint16_t>(argc > 1 ? std::atoi(argv[1]) : 0);
  unsigned workers = argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : 0;
  tendril::net::stream_server server(tendril::net::address::loopback(port), echo,
                                     {.backlog = SOMAXCONN, .workers = workers});
  auto stop = [&] { server.stop(); };
  tendril::signal_handler on_terminate(SIGTERM, stop), on_interrupt(SIGINT, stop);
  std::printf("listening on %s\n", server.where().to_string().c_str());
  std::fflush(stdout);
  server.serve_forever();
  for (auto& [thread, connections] : served)
    std::printf("kernel thread %d: %d connections\n", int(thread), connections);
} catch (const std::exception& e) {
  std::fprintf(stderr, "echo_cores: %s\n", e.what());
  return 1;
}
