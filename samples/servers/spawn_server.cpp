// A socket server in the manner of gevent: accept, spawn, and on to the next. It tells what it receives, and sends it
// back. hammer_client is its client: a hundred ordinary threads.

#include <cstdio>
#include <string>
#include <system_error>
#include <tendril/task.hpp>

#include "listen.hpp"

namespace {

void handle_request(tendril::net::socket connection) try {
  for (;;) {
    std::string data = connection.recv(1024);
    if (data.empty()) break;
    std::printf("recv: %s\n", data.c_str());
    connection.send_all(data);
  }
  connection.shutdown(SHUT_WR);
} catch (const std::system_error& e) {
  std::printf("%s\n", e.what());
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // each line at once, also into a file
  tendril::net::socket listener = listen_on_argument(argc, argv);
  for (;;) tendril::spawn(handle_request, listener.accept());
}
