// A server for datagrams: each runs the handler in a new task.
//
//   tendril::net::datagram_server echo(
//       tendril::net::address::loopback(7000),
//       [&](std::string data, const auto& from) { echo.send_to(data, from); });
//
// (gevent.server.DatagramServer)
#pragma once

#include "../detail/cxx20.hpp"

#include <functional>

#include "server.hpp"

namespace tendril::net {

class datagram_server : public base_server {
 public:
  using handler = std::function<void(std::string data, const address& from)>;

  // Binds to an address; port 0: any free one. Throws std::system_error if that fails.
  [[nodiscard("the server stops at once unless it has a name")]] datagram_server(
      const address& a, handler h, server_options o = {})
      : datagram_server(bound_to(a), std::move(h), std::move(o)) {}
  // Uses a bound socket, which the server owns from now on.
  [[nodiscard("the server stops at once unless it has a name")]] datagram_server(
      socket s, handler h, server_options o = {})
      : base_server(std::move(s), std::move(o)),
        handler_(std::make_shared<const handler>(std::move(h))) {
    handlers_use_socket_ = options_.workers != 1;
  }
  // Stops at once and kills the handlers.
  ~datagram_server() { abandon(); }

  // Sends a datagram from the server's socket. Throws std::system_error.
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
