// It must not compile: a generator that nobody asks never runs.
// message: the body runs only while next() or send() is called
#include <tendril/generator.hpp>

void f() {
#ifdef CORRECT
  tendril::generator<int> g([] {});
  g.next();
#else
  tendril::generator<int>([] {});
#endif
}
