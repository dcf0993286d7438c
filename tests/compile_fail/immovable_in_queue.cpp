// It must not compile: an item moves into the queue and out of it.
// message: the values of a queue must be movable
#include <atomic>
#include <memory>
#include <tendril/queue.hpp>

void f() {
#ifdef CORRECT
  tendril::queue<std::unique_ptr<std::atomic<int>>> q;
#else
  tendril::queue<std::atomic<int>> q;
#endif
}
