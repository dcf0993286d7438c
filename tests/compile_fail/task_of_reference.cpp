// It must not compile: a task stores its result, which a reference does not hold.
// message: a task must return a value (wrap a reference in std::ref)
#include <functional>
#include <tendril/task.hpp>

void f() {
#ifdef CORRECT
  static int n = 0;
  tendril::spawn([] { return std::ref(n); });
#else
  static int n = 0;
  tendril::spawn([]() -> int& { return n; });
#endif
}
