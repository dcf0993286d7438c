// A local static variable that its own initialisation uses.
#include <tendril/task.hpp>

static int value(int n) {
  static int is = n < 100 ? value(n + 1) : 0;  // some end, or compilers warn
  return is + n;
}

int main() {
  tendril::spawn([] { return value(0); }).join();
}
