// An exception that no fiber catches, not even the main fiber, ends the process as it would without
// fibers.
#include <tendril/fiber.hpp>

#include <cstdio>
#include <exception>

int main() {
  std::set_terminate([] {
    std::fputs("terminated\n", stderr);
    std::abort();
  });
  tendril::fiber<> f([] { throw 1; });
  f.switch_to();
}
