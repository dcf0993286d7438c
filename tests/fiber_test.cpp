#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
#include <tendril/tendril.hpp>
#include <vector>
#include <string>
using namespace tendril;
using namespace std::chrono_literals;
TEST_CASE("a switch passes values both ways") {
  fiber<int> f([](int x) { int y = fiber<int>::current().parent().switch_to(x * 2); return y + 1; });
  CHECK(f.switch_to(4) == 8);
  CHECK(f.switch_to(10) == 11);
  CHECK(f.dead());
}
TEST_CASE("tasks") {
  std::vector<int> order;
  auto a = spawn([&] { order.push_back(1); sleep(10ms); order.push_back(3); return std::string("x"); });
  auto b = spawn([&] { order.push_back(2); yield(); throw std::runtime_error("boo"); });
  CHECK(a.get() == "x");
  CHECK_THROWS_WITH(b.get(), "boo");
  auto c = spawn([&] { sleep(1h); });
  yield();
  c.kill();
  CHECK(c.ready());
  CHECK_THROWS_AS(c.get(), fiber_exit);
  CHECK(order == std::vector<int>{1, 2, 3});
}
TEST_CASE("unwinding") {
  bool gone = false;
  { fiber<> f([&] { struct g { bool& b; ~g() { b = true; } } x{gone}; fiber<>::current().parent().switch_to(); });
    f.switch_to(); CHECK(!gone); }
  CHECK(gone);
}
TEST_CASE("deadlock") {
  task<void> t, u;
  t = spawn([&] { u.join(); });
  u = spawn([&] { t.join(); });
  CHECK_THROWS_AS(t.join(), loop_exit);
  t.kill(); u.kill();
}
