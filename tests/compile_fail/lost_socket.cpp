// It must not compile: a socket without a name is closed at once.
// message: the socket is closed at once unless it has a name
#include <tendril/net/create_connection.hpp>

void f() {
#ifdef CORRECT
  auto s = tendril::net::create_connection("localhost", 80);
#else
  tendril::net::create_connection("localhost", 80);
#endif
}
