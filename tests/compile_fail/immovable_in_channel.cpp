// It must not compile: a value moves from the sender to the receiver.
// message: the values of a channel must be movable
#include <atomic>
#include <memory>
#include <tendril/channel.hpp>

void f() {
#ifdef CORRECT
  tendril::channel<std::unique_ptr<std::atomic<int>>> c;
#else
  tendril::channel<std::atomic<int>> c;
#endif
}
