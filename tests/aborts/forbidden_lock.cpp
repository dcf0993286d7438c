// The completion of a barrier must not wait, but wants a lock that another task holds.
#include <tendril/barrier.hpp>
#include <tendril/task.hpp>

#include <mutex>

int main() {
  std::mutex m;
  auto holder = tendril::spawn([&] {
    std::lock_guard hold(m);
    for (;;) tendril::yield();
  });
  tendril::yield();
  tendril::barrier b(1, [&] { std::lock_guard hold(m); });
  b.wait();
}
