// It must not compile: only the result of move_on_after() tells whether the call ended in time.
// message: it tells whether f ended in time
#include <tendril/timeout.hpp>

void f() {
#ifdef CORRECT
  if (!tendril::move_on_after(std::chrono::seconds(1), [] {})) return;
#else
  tendril::move_on_after(std::chrono::seconds(1), [] {});
#endif
}
