// gevent's socket server: accept, spawn, repeat. It prints what it receives, and sends it back. Its
// clients are interactive_client, and hammer_client with a hundred ordinary threads.
//
// In place of monkey.patch_all(): net's sockets wait cooperatively without it.
//
//   gevent_server [PORT]   on 127.0.0.1; 8001

#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <system_error>
#include <tendril/task.hpp>

#include "../python_text.hpp"
#include "listen.hpp"

namespace {

void handle_request(tendril::net::socket connection) try {
  for (;;) {
    std::string data = connection.recv(1024);
    std::printf("recv: %s\n", python::bytes_repr(data).c_str());
    connection.send(data);
    // then the next send of an empty message fails: this is how the tutorial's server ends
    if (data.empty()) connection.shutdown(SHUT_WR);
  }
} catch (const std::system_error& e) {
  std::printf("[Errno %d] %s\n", e.code().value(), std::strerror(e.code().value()));
}

}  // namespace

int main(int argc, char** argv) try {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // write each line at once, also to a file
  tendril::net::socket listener = listen_on_argument(argc, argv, 8001, stderr);
  for (;;) tendril::spawn(handle_request, listener.accept());
} catch (const std::exception& e) {
  std::fprintf(stderr, "gevent_server: %s\n", e.what());
  return 1;
}
