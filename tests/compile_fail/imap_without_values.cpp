// It must not compile: imap() returns what the calls return.
// message: imap() needs a function that returns a value; see map()
#include <tendril/group.hpp>
#include <vector>

void f() {
#ifdef CORRECT
  tendril::group g;
  for (auto& x : g.imap([](int n) { return n; }, std::vector{1})) (void)x;
#else
  tendril::group g;
  for (auto& x : g.imap([](int) {}, std::vector{1})) (void)x;
#endif
}
