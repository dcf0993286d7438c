// The echo server of Python's documentation of selectors: the data registered with each descriptor
// is the function to call when it is ready.
//
//   selectors_echo [PORT]   on 127.0.0.1; 1234

#include <cstdio>
#include <exception>
#include <memory>
#include <string>
#include <system_error>
#include <tendril/selector.hpp>
#include <utility>

#include "../python_text.hpp"
#include "listen.hpp"

namespace {

using socket_pointer = std::shared_ptr<tendril::net::socket>;
using callback = void (*)(const socket_pointer&);
struct registered {
  callback call;
  socket_pointer socket;
};
tendril::selector<registered> sel;

void read(const socket_pointer& conn) {
  std::string data;
  try {
    data = conn->recv(1000);  // should be ready
    if (!data.empty()) {
      std::printf("echoing %s to %s\n", python::bytes_repr(data).c_str(),
                  python::repr(*conn).c_str());
      conn->send_all(data);  // hope it won't block
    }
  } catch (const std::system_error&) {
    data.clear();  // The client has reset the connection: treat it as the end.
  }
  if (data.empty()) {
    std::printf("closing %s\n", python::repr(*conn).c_str());
    sel.unregister(conn->descriptor());
  }
}

void accept(const socket_pointer& sock) {
  auto [client, peer] = accept_from(*sock);
  auto conn = std::make_shared<tendril::net::socket>(std::move(client));
  std::printf("accepted %s from %s\n", python::repr(*conn).c_str(), python::repr(peer).c_str());
  sel.register_(conn->descriptor(), sel.read, {read, conn});
}

}  // namespace

int main(int argc, char** argv) try {
  auto listener =
      std::make_shared<tendril::net::socket>(listen_on_argument(argc, argv, 1234, stderr));
  sel.register_(listener->descriptor(), sel.read, {accept, listener});
  for (;;) {
    for (auto& [key, events] : sel.select()) key.data.call(key.data.socket);
    std::fflush(stdout);
  }
} catch (const std::exception& e) {
  std::fprintf(stderr, "selectors_echo: %s\n", e.what());
  return 1;
}
