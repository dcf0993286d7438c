// greenlet's first example with one more switch: test1 switches back to test2 at its end, so 78 is
// printed too. Prints 12 56 34 78.

#include <cstdio>
#include <tendril/fiber.hpp>

int main() {
  tendril::fiber<> gr1, gr2;
  gr1 = tendril::fiber([&] {
    std::puts("12");
    gr2.switch_to();
    std::puts("34");
    gr2.switch_to();
  });
  gr2 = tendril::fiber([&] {
    std::puts("56");
    gr1.switch_to();
    std::puts("78");
  });
  gr1.switch_to();
}
