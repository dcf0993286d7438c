// It must not compile: the parent of a fiber that ends by fiber_exit gets T{}.
// message: T{} is what a parent gets when its child ended by fiber_exit
#include <tendril/fiber.hpp>

struct numbered {
  explicit numbered(int n) : number(n) {}
  int number;
};

void f() {
#ifdef CORRECT
  tendril::fiber<int> g([](int n) { return n; });
#else
  tendril::fiber<numbered> g([](numbered n) { return n; });
#endif
}
