// Tracing: every switch is reported to a callback.
#include <doctest/doctest.h>
#include <tendril/task.hpp>
#include <tendril/trace.hpp>

#include <stdexcept>
#include <thread>
#include <tuple>
#include <vector>

using namespace tendril;

namespace {

using event = std::tuple<trace_event, std::uint64_t, std::uint64_t>;
constexpr auto switched = trace_event::switched;
constexpr auto thrown = trace_event::thrown;

event make(trace_event e, const any_fiber& from, const any_fiber& to) {
  return {e, from.id(), to.id()};
}

// Records switches during its lifetime.
struct recorder {
  std::vector<event> events;
  trace_callback before =
      set_trace([this](trace_event e, const any_fiber& from, const any_fiber& to) {
        events.push_back(make(e, from, to));
      });
  ~recorder() { set_trace(before); }
};

void to_parent() { fiber<>::current().parent().switch_to(); }

}  // namespace

TEST_CASE("each switch is reported once, with its origin and its target") {
  any_fiber main = current_fiber();
  fiber<> f([] { to_parent(); });
  recorder r;
  f.switch_to();
  f.switch_to();
  CHECK(r.events == std::vector{make(switched, main, f), make(switched, f, main),
                                make(switched, main, f), make(switched, f, main)});
}

TEST_CASE("an exception that travels is reported as thrown, and so is throw_") {
  any_fiber main = current_fiber();
  fiber<> f([] { throw 1; }), g([] { to_parent(); });
  g.switch_to();
  recorder r;
  CHECK_THROWS_AS(f.switch_to(), int);
  CHECK_THROWS_AS(g.throw_(2), int);
  CHECK(r.events == std::vector{make(switched, main, f), make(thrown, f, main),
                                make(thrown, main, g), make(thrown, g, main)});
}

TEST_CASE("the end of a fiber by fiber_exit is reported as a switch to its parent") {
  any_fiber main = current_fiber();
  std::uint64_t id;
  recorder r;
  {
    fiber<> f([] { to_parent(); });
    id = f.id();
    f.switch_to();
    r.events.clear();
  }
  CHECK(r.events == std::vector<event>{{thrown, main.id(), id}, {switched, id, main.id()}});
}

TEST_CASE("a switch to the running fiber is not reported") {
  recorder r;
  CHECK(fiber<int>::current().switch_to(1) == 1);
  CHECK(r.events.empty());
}

TEST_CASE("the callback runs on the fiber that was switched to") {
  std::vector<std::uint64_t> on;
  fiber<> f([] {});
  trace_callback before =
      set_trace([&](auto, auto&, auto&) { on.push_back(current_fiber().id()); });
  f.switch_to();
  set_trace(before);
  CHECK(on == std::vector{f.id(), current_fiber().id()});
}

TEST_CASE("set_trace returns the callback that was set before, and an empty one ends tracing") {
  int calls = 0;
  CHECK_FALSE(set_trace([&](auto, auto&, auto&) { calls++; }));
  trace_callback mine = set_trace({});
  REQUIRE(mine);
  mine(switched, current_fiber(), current_fiber());
  CHECK(calls == 1);
  CHECK_FALSE(set_trace({}));
  fiber<>([] {}).switch_to();
  CHECK(calls == 1);
}

TEST_CASE("a callback may be set again") {
  int calls = 0;
  trace_callback count = [&](auto, auto&, auto&) { calls++; };
  set_trace(count);
  set_trace(count);
  fiber<>([] {}).switch_to();
  set_trace({});
  CHECK(calls == 2);
}

TEST_CASE("a callback that throws ends tracing, and the switch throws its exception") {
  int calls = 0;
  std::string seen;
  fiber<int> f([&](int) {
    try {
      fiber<int>::current().parent().switch_to(1);
    } catch (const std::runtime_error& e) {
      seen = e.what();
    }
    return 2;
  });
  CHECK(f.switch_to(0) == 1);
  set_trace([&](auto, auto&, auto&) {
    calls++;
    throw std::runtime_error("tracer");
  });
  CHECK(f.switch_to(0) == 2);  // it reached the fiber that was switched to
  CHECK(seen == "tracer");
  CHECK(calls == 1);
  CHECK_FALSE(set_trace({}));
}

TEST_CASE(
    "a callback that throws on a fiber's first switch ends that fiber, and its parent gets the "
    "exception") {
  fiber<> f([] { FAIL("not reached"); });
  set_trace([](auto, auto&, auto&) { throw std::runtime_error("tracer"); });
  CHECK_THROWS_WITH(f.switch_to(), "tracer");
  CHECK(f.dead());
  CHECK_FALSE(set_trace({}));
}

TEST_CASE(
    "an exception of a callback for a switch of the hub is thrown by the next explicit switch") {
  auto t = spawn([] {});
  set_trace([](auto, auto&, auto&) { throw std::runtime_error("tracer"); });
  t.join();
  fiber<> f([] {});
  CHECK_THROWS_WITH(f.switch_to(), "tracer");
  CHECK_NOTHROW(f.switch_to());
}

TEST_CASE("a callback may replace itself, and throw after that") {
  int second = 0;
  fiber<> f([] { to_parent(); });
  f.switch_to();
  set_trace([&](auto, auto&, auto&) {
    set_trace([&](auto, auto&, auto&) { second++; });
    throw std::runtime_error("first");
  });
  CHECK_THROWS_WITH(f.switch_to(), "first");
  // the new callback remains set, and the exception's travel was reported to it
  CHECK(second == 1);
  CHECK(set_trace({}));
}

TEST_CASE(
    "switches that the callback makes are not reported, and do not change the value in transit") {
  int told = 0;
  fiber<int> helper([](int x) {
    for (;;) x = fiber<int>::current().parent().switch_to(x + 1);
    return 0;
  });
  fiber<int> f([](int x) { return x * 2; });
  std::vector<int> helped;
  set_trace([&](auto, auto&, auto&) {
    told++;
    helper.parent(current_fiber());
    helped.push_back(helper.switch_to(told));
  });
  CHECK(f.switch_to(21) == 42);
  set_trace({});
  CHECK(told == 2);
  CHECK(helped == std::vector{2, 3});
  helper.parent(current_fiber());
}

TEST_CASE("a callback may drop the last handle of the fiber that was switched from") {
  bool unwound = false;
  fiber<> f([&] {
    struct guard {
      bool& b;
      ~guard() { b = true; }
    } g{unwound};
    to_parent();
  });
  any_fiber main = current_fiber();
  set_trace([&](auto, auto&, const any_fiber& to) {
    if (to == main) f = {};
  });
  f.switch_to();
  CHECK(unwound);
  // The same for a fiber that has ended.
  f = fiber<>([] {});
  f.switch_to();
  set_trace({});
  CHECK_FALSE(f.valid());
}

TEST_CASE("a callback may keep the handles that it is given") {
  std::vector<any_fiber> kept;
  set_trace([&](auto, const any_fiber& from, const any_fiber&) { kept.push_back(from); });
  fiber<>([] {}).switch_to();
  set_trace({});
  REQUIRE(kept.size() == 2);
  CHECK(kept[0] == current_fiber());
  CHECK(kept[1].dead());
}

TEST_CASE("the hub's switches are reported too") {
  any_fiber main = current_fiber();
  auto a = spawn([] { yield(); }), b = spawn([] {});
  recorder r;
  joinall(std::vector{a});
  CHECK(r.events == std::vector{make(switched, main, a.as_fiber()),
                                make(switched, a.as_fiber(), b.as_fiber()),
                                make(switched, b.as_fiber(), a.as_fiber()),
                                make(switched, a.as_fiber(), main)});
}

TEST_CASE("each kernel thread has its own callback, which is destroyed at the thread's end") {
  auto held = std::make_shared<int>();
  int mine = 0;
  set_trace([&](auto, auto&, auto&) { mine++; });
  std::thread([held] {
    int calls = 0;
    fiber<>([] {}).switch_to();
    CHECK_FALSE(set_trace([held](auto, auto&, auto&) { ++*held; }));
    fiber<>([] {}).switch_to();
    (void)calls;
  }).join();
  set_trace({});
  CHECK(mine == 0);
  CHECK(*held == 2);
  CHECK(held.use_count() == 1);
}

TEST_CASE("the switches to fibers that a thread's end unwinds are still reported") {
  int told = 0;
  fiber<> f;
  std::thread([&] {
    f = fiber<>([] { to_parent(); });
    f.switch_to();
    set_trace([&](auto, auto&, auto&) { told++; });
  }).join();
  CHECK(told == 2);
  CHECK(f.dead());
}
