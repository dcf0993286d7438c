// It must not compile: after() is a case of a select(), not a timer.
// message: a case does nothing by itself: pass it to select()
#include <tendril/channel.hpp>

void f() {
#ifdef CORRECT
  tendril::select(tendril::after(std::chrono::seconds(1), [] {}));
#else
  tendril::after(std::chrono::seconds(1), [] {});
#endif
}
