// It must not compile: a signal_handler without a name is removed before a signal comes.
// message: the handler is removed at once unless the signal_handler has a name
#include <tendril/signal_handler.hpp>

void f() {
#ifdef CORRECT
  tendril::signal_handler on_term(SIGTERM, [] {});
#else
  tendril::signal_handler(SIGTERM, [] {});
#endif
}
