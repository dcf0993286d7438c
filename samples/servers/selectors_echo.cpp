// The echo server of Python's documentation of selectors: what is registered with each descriptor is the function that
// is called when it is ready.

#include <cstdio>
#include <memory>
#include <string>
#include <tendril/selector.hpp>
#include <utility>

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
  std::string peer = conn->remote_address().to_string();
  std::string data = conn->recv(1000);  // should be ready
  if (!data.empty()) {
    std::printf("echoing '%s' to %s\n", data.c_str(), peer.c_str());
    conn->send_all(data);  // hope it won't block
  } else {
    std::printf("closing %s\n", peer.c_str());
    sel.unregister(conn->descriptor());
  }
}

void accept(const socket_pointer& sock) {
  auto conn = std::make_shared<tendril::net::socket>(sock->accept());
  std::printf("accepted %s\n", conn->remote_address().to_string().c_str());
  sel.register_(conn->descriptor(), sel.read, {read, conn});
}

}  // namespace

int main(int argc, char** argv) {
  auto listener = std::make_shared<tendril::net::socket>(listen_on_argument(argc, argv));
  sel.register_(listener->descriptor(), sel.read, {accept, listener});
  for (;;) {
    for (auto& [key, events] : sel.select()) key.data.call(key.data.socket);
    std::fflush(stdout);
  }
}
