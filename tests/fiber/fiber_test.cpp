// The explicit switch: values, errors, parents. These are greenlet's guarantees, as Tendril keeps
// them.
#include <doctest/doctest.h>
#include <tendril/fiber.hpp>
#include <tendril/task.hpp>

#include <cfenv>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <variant>
#include <vector>

using namespace tendril;

namespace {

struct oops : std::runtime_error {
  oops() : runtime_error("oops") {}
};

// Hands a value to the parent of the running fiber.
template <class T>
T to_parent(T value) {
  return fiber<T>::current().parent().switch_to(std::move(value));
}
void to_parent() { fiber<>::current().parent().switch_to(); }

}  // namespace

TEST_SUITE_BEGIN("switch");

TEST_CASE("a fiber runs only when another one switches to it") {
  bool ran = false;
  fiber<> f([&] { ran = true; });
  CHECK_FALSE(ran);
  CHECK_FALSE(f.started());
  f.switch_to();
  CHECK(ran);
  CHECK(f.dead());
}

TEST_CASE("a switch passes values both ways") {
  fiber<int> f([](int x) {
    int y = to_parent(x * 2);
    return y + 1;
  });
  CHECK(f.switch_to(4) == 8);
  CHECK(f.switch_to(10) == 11);
}

TEST_CASE("two fibers switch to each other without their parent") {
  std::string seen;
  fiber<> a, b;
  a = fiber<>([&] {
    seen += "12 ";
    b.switch_to();
    seen += "34 ";
  });
  b = fiber<>([&] {
    seen += "56 ";
    a.switch_to();
    seen += "78 ";
  });
  a.switch_to();
  CHECK(seen == "12 56 34 ");
  CHECK(a.dead());
  CHECK_FALSE(b.dead());
}

TEST_CASE("fibers run in the order of the switches") {
  std::vector<int> order;
  fiber<> f([&] {
    order.push_back(1);
    to_parent();
    order.push_back(3);
  });
  order.push_back(0);
  f.switch_to();
  order.push_back(2);
  f.switch_to();
  order.push_back(4);
  CHECK(order == std::vector{0, 1, 2, 3, 4});
}

TEST_CASE("two children of one function are independent") {
  std::vector<int> seen;
  auto body = [&] {
    seen.push_back(1);
    to_parent();
    seen.push_back(1);
  };
  fiber<> f(body), g(body);
  f.switch_to();
  CHECK(seen.size() == 1);
  g.switch_to();
  CHECK(seen.size() == 2);
  f.switch_to();
  CHECK(seen.size() == 3);
  g.switch_to();
  CHECK(seen.size() == 4);
}

TEST_CASE("a fiber may make and run fibers of its own") {
  std::vector<int> seen;
  auto inner = [&] {
    seen.push_back(1);
    to_parent();
  };
  auto outer = [&] {
    fiber<> f(inner);
    f.switch_to();
    seen.push_back(2);
    to_parent();
    f.switch_to();
  };
  fiber<> g(outer);
  g.switch_to();
  CHECK(seen == std::vector{1, 2});
  g.switch_to();
  CHECK(g.dead());
}

TEST_CASE("the callable may take no argument, and then the first value is dropped") {
  fiber<int> f([] { return 5; });
  CHECK(f.switch_to(1) == 5);
}

TEST_CASE("the first value may be left out, and is then T{}") {
  fiber<int> f([](int x) { return x + 1; });
  CHECK(f.switch_to() == 1);
}

TEST_CASE("a fiber of void passes control only") {
  int turns = 0;
  fiber<> f([&] {
    for (; turns < 3; turns++) to_parent();
  });
  while (!f.dead()) f.switch_to();
  CHECK(turns == 3);
}

TEST_CASE("values are moved and never copied") {
  fiber<std::unique_ptr<int>> f([](std::unique_ptr<int> p) {
    *p += 1;
    p = to_parent(std::move(p));
    *p += 10;
    return p;
  });
  auto p = f.switch_to(std::make_unique<int>(1));
  CHECK(*p == 2);
  p = f.switch_to(std::move(p));
  CHECK(*p == 12);
}

TEST_CASE("the callable may be a function that can only be moved, a pointer, or noexcept") {
  fiber f([p = std::make_unique<int>(7)](int x) { return x + *p; });
  static_assert(std::is_same_v<decltype(f), fiber<int>>);
  CHECK(f.switch_to(1) == 8);
  fiber g(+[](double x) { return x * 2; });
  static_assert(std::is_same_v<decltype(g), fiber<double>>);
  CHECK(g.switch_to(2) == 4);
  fiber h([]() noexcept {});
  static_assert(std::is_same_v<decltype(h), fiber<>>);
  h.switch_to();
  fiber k([](const std::string& s) { return s + "!"; }, current_fiber());
  static_assert(std::is_same_v<decltype(k), fiber<std::string>>);
  CHECK(k.switch_to("hi") == "hi!");
}

TEST_CASE("several kinds of message travel as a variant") {
  using message = std::variant<std::monostate, int, std::string>;
  fiber<message> f([](message m) -> message {
    m = to_parent(message(std::to_string(std::get<int>(m))));
    return int(std::get<std::string>(m).size());
  });
  CHECK(std::get<std::string>(f.switch_to(12)) == "12");
  CHECK(std::get<int>(f.switch_to("four")) == 4);
}

TEST_CASE("a switch to the running fiber itself returns the value") {
  CHECK(fiber<int>::current().switch_to(5) == 5);
  fiber<int> f([](int x) { return fiber<int>::current().switch_to(x + 1); });
  CHECK(f.switch_to(1) == 2);
}

TEST_CASE("a value that reaches a fiber of another type is an error and never a wrong value") {
  fiber<std::string> f([](std::string s) { return s; });
  CHECK_THROWS_AS(fiber<int>(any_fiber(f)).switch_to(1), fiber_error);
  CHECK_FALSE(f.started());
  CHECK(f.switch_to("still works") == "still works");
}

TEST_CASE("a child's result of another type arrives as an error in its parent") {
  bool told = false;
  fiber<int> child([](int x) { return x; });
  fiber<std::string> parent([&](std::string) -> std::string {
    CHECK_THROWS_AS(to_parent(std::string("ready")), fiber_error);
    told = true;
    return "";
  });
  CHECK(parent.switch_to("") == "ready");
  child.parent(parent);
  // The child ends and `parent` gets the error; the value that `parent` returns does not fit the
  // int that is waited for here either.
  CHECK_THROWS_AS(child.switch_to(3), fiber_error);
  CHECK(told);
  CHECK(child.dead());
  CHECK(parent.dead());
}

TEST_CASE("a handle of no fiber can be queried, and not switched to") {
  fiber<> none;
  CHECK_FALSE(none.valid());
  CHECK_FALSE(none.started());
  CHECK_FALSE(none.dead());
  CHECK_FALSE(none.parent().valid());
  CHECK_FALSE(static_cast<bool>(none));
  CHECK(none.id() == 0);
  CHECK(none.name() == "");
  CHECK_THROWS_AS(none.switch_to(), fiber_error);
  CHECK_THROWS_AS(none.throw_(), fiber_error);
  CHECK_THROWS_AS(none.parent(current_fiber()), fiber_error);
}

TEST_CASE("a deep chain of fibers returns level by level") {
  std::function<int(int)> nest = [&](int depth) {
    if (depth == 0) return 0;
    fiber<int> f([&](int d) { return nest(d); });
    return f.switch_to(depth - 1) + 1;
  };
  CHECK(nest(200) == 200);
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("state");

TEST_CASE("a fiber is neither started nor dead, then started, then dead") {
  fiber<> f([&] { to_parent(); });
  CHECK_FALSE(f.started());
  CHECK_FALSE(f.dead());
  CHECK_FALSE(static_cast<bool>(f));
  f.switch_to();
  CHECK(f.started());
  CHECK_FALSE(f.dead());
  CHECK(static_cast<bool>(f));
  f.switch_to();
  CHECK(f.started());
  CHECK(f.dead());
  CHECK_FALSE(static_cast<bool>(f));
}

TEST_CASE("current_fiber() is the fiber that calls it") {
  any_fiber main = current_fiber();
  CHECK(main.is_main());
  CHECK(main.started());
  CHECK_FALSE(main.dead());
  CHECK(main == current_fiber());
  any_fiber inside;
  fiber<> f([&] {
    inside = current_fiber();
    CHECK_FALSE(inside.is_main());
  });
  f.switch_to();
  CHECK(inside == f);
  CHECK(main == current_fiber());
}

TEST_CASE("each kernel thread has a main fiber of its own") {
  any_fiber mine = current_fiber(), other;
  std::thread([&] {
    other = current_fiber();
    CHECK(other.is_main());
    CHECK_FALSE(other == mine);
    CHECK(other.started());
    CHECK_FALSE(other.dead());
  }).join();
  CHECK(other.is_main());
  CHECK(other.dead());
}

TEST_CASE("ids are never reused, and names are cut at 23 characters") {
  fiber<> f([] {}, {.name = "worker"}), g([] {}, {.name = "a name that is longer than that"});
  CHECK(f.name() == "worker");
  CHECK(g.name() == "a name that is longer t");
  CHECK(f.id() != g.id());
  f.name("other");
  CHECK(f.name() == "other");
  auto last = g.id();
  g = {};
  CHECK(fiber<>([] {}).id() > last);
  CHECK(current_fiber().name() == "main");
}

TEST_CASE("a fiber gets the stack size that it asks for") {
  fiber<int> f(
      [](int n) {
        volatile char room[3 << 20];
        room[0] = char(n);
        for (std::size_t i = 4096; i < sizeof room; i += 4096) room[i] = room[i - 4096];
        return int(room[sizeof room / 4096 * 4096 - 4096]);
      },
      {.stack_size = 4 << 20});
  CHECK(f.switch_to(42) == 42);
  fiber<> g([] {}, {.stack_size = std::size_t(1) << 40});
  CHECK_THROWS_AS(g.switch_to(), std::bad_alloc);
  CHECK_FALSE(g.started());
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("end");

TEST_CASE("a fiber's result goes to its parent") {
  fiber<int> child([](int x) { return x + 1; });
  fiber<int> parent([&](int x) {
    child.parent(current_fiber());
    int y = to_parent(x);  // main switches to the child, whose result arrives here
    return y * 100;
  });
  CHECK(parent.switch_to(1) == 1);
  CHECK(child.switch_to(2) == 300);
  CHECK(child.dead());
  CHECK(parent.dead());
}

TEST_CASE("a value switched to a dead fiber goes to its first living ancestor") {
  fiber<int> f([](int x) { return x; });
  f.switch_to(1);
  CHECK(f.switch_to(7) == 7);  // the running fiber is that ancestor

  fiber<int> grand([](int x) {
    int got = to_parent(x);
    return got * 2;
  });
  grand.switch_to(0);
  fiber<int> dead_parent([](int x) { return x; }, grand);
  fiber<int> dead_child([](int x) { return x; }, dead_parent);
  // They have not run. Killing an unstarted fiber hands T{} to its parent, so they are ended with
  // main as the parent.
  dead_child.parent(current_fiber());
  dead_parent.parent(current_fiber());
  dead_child.switch_to(0);
  dead_parent.switch_to(0);
  dead_parent.parent(grand);
  dead_child.parent(dead_parent);
  CHECK(dead_child.switch_to(21) == 42);
  CHECK(grand.dead());
}

TEST_CASE("a fiber that ends starts a parent that was never started, with its result") {
  fiber<int> parent([](int x) { return x + 24; });
  fiber<int> child([](int) { return 42; }, parent);
  CHECK(child.switch_to(0) == 66);
  CHECK(parent.dead());
}

TEST_CASE("a dead fiber with an unstarted parent starts it, and after that passes on") {
  std::vector<int> seen;
  fiber<> parent([&] { seen.push_back(24); });
  fiber<> child([&] { seen.push_back(42); });
  child.switch_to();
  child.parent(parent);
  child.switch_to();
  CHECK(seen == std::vector{42, 24});
  child.switch_to();
  CHECK(seen == std::vector{42, 24});
}

TEST_CASE("an exception that a fiber does not catch travels to its parent") {
  fiber<> f([] { throw oops(); });
  CHECK_THROWS_AS(f.switch_to(), oops);
  CHECK(f.dead());
  CHECK_NOTHROW(f.switch_to());
}

TEST_CASE("an exception travels through parents that do not catch it") {
  fiber<> outer([] {
    fiber<> inner([] { throw oops(); });
    inner.switch_to();
    FAIL("not reached");
  });
  CHECK_THROWS_AS(outer.switch_to(), oops);
  CHECK(outer.dead());
}

TEST_CASE("an exception goes to the parent, not to the fiber that switched") {
  fiber<std::string> catcher([](std::string) -> std::string {
    try {
      to_parent(std::string("ready"));
    } catch (const oops&) {
      return "caught";
    }
    return "not caught";
  });
  CHECK(catcher.switch_to("") == "ready");
  fiber<std::string> thrower([](std::string) -> std::string { throw oops(); }, catcher);
  CHECK(thrower.switch_to("") == "caught");
}

TEST_CASE("an exception of any type travels unchanged") {
  fiber<> f([] { throw 42; });
  try {
    f.switch_to();
    FAIL("not reached");
  } catch (int e) {
    CHECK(e == 42);
  }
  const void* thrown = nullptr;
  fiber<> g([&] {
    try {
      throw oops();
    } catch (const oops& e) {
      thrown = &e;
      throw;
    }
  });
  try {
    g.switch_to();
  } catch (const oops& e) {
    CHECK(&e == thrown);
  }
}

TEST_CASE("the callable is destroyed as soon as the fiber has ended") {
  auto held = std::make_shared<int>();
  fiber<> f([held] { to_parent(); });
  CHECK(held.use_count() == 2);
  f.switch_to();
  CHECK(held.use_count() == 2);
  f.switch_to();
  CHECK(held.use_count() == 1);
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("throw_");

TEST_CASE("throw_ raises an exception in a suspended fiber, which may catch it and go on") {
  fiber<std::string> f([](std::string) -> std::string {
    try {
      to_parent(std::string("ready"));
    } catch (const oops& e) {
      return to_parent(std::string("caught ") + e.what()), "done";
    }
    return "fail";
  });
  CHECK(f.switch_to("") == "ready");
  CHECK(f.throw_(oops()) == "caught oops");
  CHECK(f.switch_to("") == "done");
}

TEST_CASE("throw_ takes an exception_ptr as well") {
  fiber<> f([] { to_parent(); });
  f.switch_to();
  CHECK_THROWS_AS(f.throw_(std::make_exception_ptr(oops())), oops);
  CHECK(f.dead());
}

TEST_CASE("an exception thrown into a fiber that does not catch it comes back to the parent") {
  fiber<int> f([](int x) { return to_parent(x); });
  f.switch_to(1);
  CHECK_THROWS_AS(f.throw_(oops()), oops);
  CHECK(f.dead());
}

TEST_CASE("throw_ into an unstarted fiber ends it without running it") {
  bool ran = false;
  fiber<> f([&] { ran = true; });
  CHECK_THROWS_AS(f.throw_(oops()), oops);
  CHECK_FALSE(ran);
  CHECK(f.dead());
  fiber<int> g([&](int) { return ran = true; });
  CHECK(g.throw_() == 0);
  CHECK(g.dead());
  CHECK_FALSE(ran);
}

TEST_CASE("throw_ into an unstarted fiber goes on to its parent") {
  auto body = [](std::string) -> std::string {
    try {
      fiber<std::string>(current_fiber()).parent().switch_to("ready");
    } catch (const oops&) {
      return "caught";
    }
    return "normal";
  };
  auto idle = [](std::string s) { return s; };
  SUBCASE("which has not started either, and ends too") {
    fiber<std::string> parent(body), child(idle, parent);
    CHECK_THROWS_AS(child.throw_(oops()), oops);
    CHECK(parent.dead());
    CHECK(child.dead());
  }
  SUBCASE("which catches it") {
    fiber<std::string> parent(body), child(idle, parent);
    CHECK(parent.switch_to("") == "ready");
    CHECK(child.throw_(oops()) == "caught");
  }
}

TEST_CASE("throw_ into a suspended fiber goes to its parent when it is not caught") {
  any_fiber main = current_fiber();
  fiber<std::string> parent([](std::string) -> std::string {
    try {
      to_parent(std::string("ready"));
    } catch (const oops&) {
      return "caught";
    }
    return "normal";
  });
  fiber<std::string> child(
      [&](std::string) { return fiber<std::string>(main).switch_to("from child"); }, parent);
  CHECK(parent.switch_to("") == "ready");
  CHECK(child.switch_to("") == "from child");
  CHECK(child.throw_(oops()) == "caught");
  CHECK(child.dead());
  CHECK(parent.dead());
}

TEST_CASE("fiber_exit ends a fiber, and its parent gets T{} and no exception") {
  bool unwound = false;
  fiber<int> f([&](int x) {
    struct guard {
      bool& gone;
      ~guard() { gone = true; }
    } g{unwound};
    return to_parent(x);
  });
  CHECK(f.switch_to(3) == 3);
  CHECK(f.throw_() == 0);
  CHECK(unwound);
  CHECK(f.dead());
}

TEST_CASE("a fiber may end itself by throwing fiber_exit") {
  fiber<int> f([](int) -> int { throw fiber_exit(); });
  CHECK(f.switch_to(1) == 0);
  CHECK(f.dead());
}

TEST_CASE("a fiber may catch fiber_exit and return a value instead") {
  fiber<int> f([](int x) {
    try {
      return to_parent(x);
    } catch (const fiber_exit&) {
      return -1;
    }
  });
  f.switch_to(3);
  CHECK(f.throw_() == -1);
}

TEST_CASE("a handler for std::exception does not swallow fiber_exit") {
  bool swallowed = false;
  fiber<> f([&] {
    try {
      to_parent();
    } catch (const std::exception&) {
      swallowed = true;
    }
  });
  f.switch_to();
  f.throw_();
  CHECK(f.dead());
  CHECK_FALSE(swallowed);
}

TEST_CASE("an exception thrown into a dead fiber comes out of its first living ancestor") {
  fiber<> f([] {});
  f.switch_to();
  CHECK_THROWS_AS(f.throw_(oops()), oops);
}

TEST_CASE(
    "fiber_exit thrown into a dead fiber is dropped, and T{} goes to its first living ancestor") {
  fiber<int> f([](int x) { return x; });
  f.switch_to(9);
  CHECK(f.throw_() == 0);
  CHECK(f.throw_(fiber_exit()) == 0);
  fiber<> g([] {});
  g.switch_to();
  CHECK_NOTHROW(g.throw_());
}

TEST_CASE("throw_ on the running fiber throws from throw_") {
  CHECK_THROWS_AS(fiber<>::current().throw_(oops()), oops);
  fiber<> f([] { CHECK_THROWS_AS(fiber<>::current().throw_(oops()), oops); });
  f.switch_to();
  CHECK(f.dead());
}

TEST_CASE("an exception may be thrown into a fiber of another type") {
  fiber<std::string> f([](std::string) -> std::string {
    to_parent(std::string());
    return "";
  });
  f.switch_to("");
  CHECK_THROWS_AS(fiber<>(any_fiber(f)).throw_(oops()), oops);
  CHECK(f.dead());
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("parent");

TEST_CASE("the parent of a new fiber is the fiber that made it") {
  fiber<> inner;
  fiber<> f([&] { inner = fiber<>([] {}); });
  CHECK(f.parent() == current_fiber());
  f.switch_to();
  CHECK(inner.parent() == f);
}

TEST_CASE("a main fiber has no parent and cannot be given one") {
  CHECK_FALSE(current_fiber().parent().valid());
  fiber<> f([] {});
  CHECK_THROWS_AS(current_fiber().parent(f), fiber_error);
}

TEST_CASE("a task has no parent and cannot be given one") {
  auto t = spawn([] {});
  CHECK_FALSE(t.as_fiber().parent().valid());
  CHECK_THROWS_AS(t.as_fiber().parent(current_fiber()), fiber_error);
  t.join();
}

TEST_CASE("a parent may be named when a fiber is made, or set later") {
  fiber<> a([] {}), b([] {}, a), c([] {});
  CHECK(b.parent() == a);
  c.parent(b);
  CHECK(c.parent() == b);
  c.parent(current_fiber());
  CHECK(c.parent() == current_fiber());
}

TEST_CASE("the parent may be changed while the fiber runs; its value at the end counts") {
  fiber<int> other([](int x) { return x + 1000; });
  fiber<int> f([&](int x) {
    fiber<int>::current().parent(other);
    return x;
  });
  CHECK(f.switch_to(1) == 1001);
  CHECK(other.dead());
}

TEST_CASE("a cycle of parents is refused") {
  fiber<> a([] {}), b([] {}, a), c([] {}, b);
  CHECK_THROWS_AS(a.parent(a), fiber_error);
  CHECK_THROWS_AS(a.parent(b), fiber_error);
  CHECK_THROWS_AS(a.parent(c), fiber_error);
  CHECK(a.parent() == current_fiber());
}

TEST_CASE("a parent must be a fiber of the same kernel thread") {
  any_fiber main = current_fiber();
  fiber<> mine([] {});
  std::thread([&] {
    fiber<> f([] {});
    CHECK_THROWS_AS(f.parent(main), fiber_error);
    CHECK_THROWS_AS(f.parent(mine), fiber_error);
    CHECK_THROWS_AS(mine.parent(f), fiber_error);
    CHECK_THROWS_AS(f.parent(any_fiber()), fiber_error);
  }).join();
}

TEST_CASE("a fiber lives as long as it is a parent") {
  fiber<int> child;
  {
    fiber<int> parent([](int x) { return to_parent(x) + 1; });
    parent.switch_to(1);
    child = fiber<int>([](int x) { return x; }, parent);
  }
  CHECK(child.switch_to(5) == 6);
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("kernel threads");

TEST_CASE("a switch to a fiber of another kernel thread is an error, whatever its state") {
  fiber<> fresh([] {}), suspended([] { to_parent(); }), dead([] {});
  suspended.switch_to();
  dead.switch_to();
  any_fiber main = current_fiber();
  std::thread([&] {
    CHECK_THROWS_AS(fresh.switch_to(), fiber_error);
    CHECK_THROWS_AS(suspended.switch_to(), fiber_error);
    CHECK_THROWS_AS(suspended.throw_(oops()), fiber_error);
    CHECK_THROWS_AS(dead.switch_to(), fiber_error);
    CHECK_THROWS_AS(fiber<>(main).switch_to(), fiber_error);
  }).join();
  CHECK_FALSE(fresh.started());
  CHECK_FALSE(suspended.dead());
  suspended.switch_to();
}

TEST_CASE("a switch to a fiber whose kernel thread has ended is an error") {
  fiber<> f, fresh;
  std::thread([&] {
    f = fiber<>([] { to_parent(); });
    fresh = fiber<>([] {});
    f.switch_to();
  }).join();
  CHECK_THROWS_AS(f.switch_to(), fiber_error);
  CHECK_THROWS_AS(f.throw_(oops()), fiber_error);
  CHECK_THROWS_AS(fresh.switch_to(), fiber_error);
}

TEST_CASE("many kernel threads switch at the same time") {
  std::vector<std::thread> threads;
  std::vector<long> sums(8);
  for (std::size_t t = 0; t < sums.size(); t++) {
    threads.emplace_back([&, t] {
      fiber<long> f([](long x) {
        long sum = 0;
        for (;;) x = to_parent(sum += x);
        return 0L;
      });
      for (long i = 1; i <= 1000; i++) sums[t] = f.switch_to(i);
    });
  }
  for (auto& t : threads) t.join();
  for (long s : sums) CHECK(s == 500500);
}

TEST_SUITE_END();
TEST_CASE(
    "a fiber has its own rounding mode, initially that of the fiber that first switches to it") {
  std::fesetround(FE_DOWNWARD);
  fiber<int> f([](int) {
    int first = std::fegetround();
    std::fesetround(FE_UPWARD);
    CHECK(to_parent(first) == 1);
    CHECK(std::fegetround() == FE_UPWARD);
    return 0;
  });
  std::fesetround(FE_TONEAREST);
  CHECK(f.switch_to(0) == FE_TONEAREST);
  CHECK(std::fegetround() == FE_TONEAREST);
  f.switch_to(1);
  CHECK(std::fegetround() == FE_TONEAREST);
}

TEST_SUITE_BEGIN("with the hub");

TEST_CASE("a fiber that is parked in the hub cannot be switched to") {
  auto t = spawn([] { yield(); });
  CHECK_THROWS_AS(fiber<>(t.as_fiber()).switch_to(), fiber_error);
  t.join();
  auto u =
      spawn([main = current_fiber()] { CHECK_THROWS_AS(fiber<>(main).switch_to(), fiber_error); });
  u.get();
}

TEST_CASE(
    "an explicit fiber may wait in the hub while the one that switched to it stays suspended") {
  std::vector<int> order;
  auto t = spawn([&] { order.push_back(1); });
  fiber<int> f([&](int x) {
    yield();
    order.push_back(2);
    return x;
  });
  CHECK(f.switch_to(5) == 5);
  CHECK(order == std::vector{1, 2});
  CHECK(t.ready());
}

TEST_CASE("a task may run explicit fibers of its own") {
  auto t = spawn([] {
    fiber<int> f([](int n) {
      for (;;) n = to_parent(n * n);
      return 0;
    });
    int sum = 0;
    for (int i = 1; i <= 3; i++) {
      sum += f.switch_to(i);
      yield();
    }
    return sum;
  });
  CHECK(t.get() == 14);
}

TEST_SUITE_END();
