// It must not compile: a timeout without a name limits nothing.
// message: the limit ends at once unless the timeout has a name
#include <tendril/timeout.hpp>

void f() {
#ifdef CORRECT
  tendril::timeout limit(std::chrono::seconds(1));
#else
  tendril::timeout(std::chrono::seconds(1));
#endif
}
