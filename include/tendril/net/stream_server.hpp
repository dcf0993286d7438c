// A server for stream connections: each runs the handler in a new task.
//
//   tendril::net::stream_server echo(tendril::net::address::loopback(7000), [](tendril::stream& s) {
//     for (auto& line : s.lines()) {
//       s.write(line + "\n");
//       s.flush();
//     }
//   });
//   echo.serve_forever();
//
// (gevent.server.StreamServer, socketserver)
#pragma once

#include "../detail/cxx20.hpp"

#include <concepts>
#include <functional>

#include "server.hpp"

namespace tendril::net {

class stream_server : public base_server {
 public:
  // Listens on an address; port 0: any free one. Connections wait in the system until start().
  // `handler` is called for each, in a task of its own, with one of these argument lists:
  //   (stream&)  (stream&, const address& peer)   flushed and closed when the handler has returned
  //   (socket)   (socket, const address& peer)    options.wrap is not used
  // Throws std::system_error if the address cannot be bound to.
  template <class Handler>
  [[nodiscard("the server stops at once unless it has a name")]] stream_server(
      const address& a, Handler handler, server_options o = {})
      : stream_server(listen_on(a, o.backlog), std::move(handler), std::move(o)) {}
  // Uses a listening socket, which the server owns from now on.
  template <class Handler>
  [[nodiscard("the server stops at once unless it has a name")]] stream_server(
      socket listener, Handler handler, server_options o = {})
      : base_server(std::move(listener), std::move(o)) {
    if constexpr (std::invocable<Handler&, socket, const address&>) {
      handler_ = std::make_shared<const connection_handler>(std::move(handler));
    } else if constexpr (std::invocable<Handler&, socket>) {
      handler_ = std::make_shared<const connection_handler>(
          [handler = std::move(handler)](socket s, const address&) { handler(std::move(s)); });
    } else {
      static_assert(
          std::invocable<Handler&, stream&, const address&> || std::invocable<Handler&, stream&>,
          "a handler must take a stream& or a socket, and optionally the peer's address");
      handler_ = std::make_shared<const connection_handler>(
          [handler = std::move(handler), wrap = options_.wrap](socket s, const address& peer) {
            stream over = wrap ? wrap(std::move(s)) : open_stream(std::move(s));
            if constexpr (std::invocable<Handler&, stream&, const address&>) handler(over, peer);
            else handler(over);
            over.close();
          });
    }
  }
  // Stops at once and kills the handlers.
  ~stream_server() { abandon(); }

 private:
  using connection_handler = std::function<void(socket, const address&)>;

  void take_one() override {
    sockaddr_storage from{};
    socklen_t n = sizeof from;
    socket s = socket::made(detail::checked_call("accept", [&] {
      n = sizeof from;
      return posix::accept4(socket_.descriptor(), reinterpret_cast<sockaddr*>(&from), &n,
                            SOCK_CLOEXEC);
    }));
    handle([h = handler_, s = std::move(s),
            peer = address(reinterpret_cast<sockaddr*>(&from), n)]() mutable {
      (*h)(std::move(s), peer);
    });
  }
  std::shared_ptr<const connection_handler> handler_;
};

}  // namespace tendril::net
