// The first example of greenlet's documentation: two fibers that switch to each other. Prints 12 56
// 34; 78 is never printed: when test1 ends, control goes to its parent, main, not back to test2.

#include <cstdio>
#include <tendril/fiber.hpp>

int main() {
  tendril::fiber<> gr1, gr2;
  gr1 = tendril::fiber([&] {
    std::puts("12");
    gr2.switch_to();
    std::puts("34");
  });
  gr2 = tendril::fiber([&] {
    std::puts("56");
    gr1.switch_to();
    std::puts("78");
  });
  gr1.switch_to();
}  // gr2 still waits in its switch_to(); dropping its last handle unwinds it
