// The first example of the gevent tutorial: two tasks that yield to each other. gevent.sleep(0) is
// yield().

#include <array>
#include <cstdio>
#include <tendril/task.hpp>

namespace {

void foo() {
  std::puts("Running in foo");
  tendril::yield();
  std::puts("Explicit context switch to foo again");
}

void bar() {
  std::puts("Explicit context to bar");
  tendril::yield();
  std::puts("Implicit context switch back to bar");
}

}  // namespace

int main() { tendril::joinall(std::array{tendril::spawn(foo), tendril::spawn(bar)}); }
