// A local static variable that its own initialisation uses.
#include <tendril/task.hpp>

static int value(int n) {
  static int is = value(n + 1);
  return is + n;
}

int main() {
  tendril::spawn([] { return value(0); }).join();
}
