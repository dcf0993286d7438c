// It must not compile: a server calls its handler with a stream or a socket.
// message: a handler must take a stream& or a socket, and optionally the peer's address
#include <tendril/net/stream_server.hpp>

void f() {
#ifdef CORRECT
  tendril::net::stream_server s(tendril::net::address::loopback(0), [](tendril::stream&) {});
#else
  tendril::net::stream_server s(tendril::net::address::loopback(0), [](int) {});
#endif
}
