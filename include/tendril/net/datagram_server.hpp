// A server of datagrams: a task for each that comes.
//
//   tendril::net::datagram_server echo(tendril::net::address::loopback(7000), [&](std::string data, const
//   auto& from) {
//     echo.send_to(data, from);
//   });
//
// (gevent.server.DatagramServer)
#pragma once

#include <functional>

#include "server.hpp"

namespace tendril::net {

class datagram_server : public base_server {
 public:
  using handler = std::function<void(std::string data, const address& from)>;

  // Binds there; port 0: any free one. std::system_error: it cannot be bound to.
  datagram_server(const address& a, handler h, server_options o = {})
      : datagram_server(bound_to(a), std::move(h), std::move(o)) {}
  // Takes over a socket that is bound.
  datagram_server(socket s, handler h, server_options o = {})
      : base_server(std::move(s), std::move(o)),
        handler_(std::make_shared<const handler>(std::move(h))) {}
  // Stops at once: handlers are killed.
  ~datagram_server() { abandon(); }

  // Sends from the server's socket.
  void send_to(std::string_view data, const address& to) { socket_.send_to(data, to); }

 private:
  static constexpr std::size_t longest = 65535;

  static socket bound_to(const address& a) {
    socket s(a.family(), SOCK_DGRAM);
    if (a.family() != AF_UNIX) s.option(SOL_SOCKET, SO_REUSEADDR, 1);
    s.bind(a);
    return s;
  }
  void take_one() override {
    auto [data, from] = socket_.recv_from(longest);
    data.shrink_to_fit();
    handle([h = handler_, data = std::move(data), from = from]() mutable {
      (*h)(std::move(data), from);
    });
  }
  std::shared_ptr<const handler> handler_;
};

}  // namespace tendril::net
