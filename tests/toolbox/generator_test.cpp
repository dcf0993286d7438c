// Generators with the semantics of Python's (test_generators.py, PEP 342, PEP 380), and yields from
// nested calls.
#include <doctest/doctest.h>
#include <tendril/generator.hpp>
#include <tendril/task.hpp>

#include <algorithm>
#include <list>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace tendril;
using namespace std::chrono_literals;

namespace {

using ints = generator<int>;
using echo = generator<std::string, std::string>;

struct says {
  std::string& log;
  const char* what;
  ~says() { log += what; }
};

void range(int from, int to) {
  for (int i = from; i < to; i++) ints::yield(i);
}
void countdown(int n) {  // recursive, without a generator for each level
  if (n == 0) return;
  ints::yield(n);
  countdown(n - 1);
}
std::vector<int> all(ints g) {
  std::vector<int> v;
  for (int i : g) v.push_back(i);
  return v;
}

}  // namespace

TEST_SUITE_BEGIN("generator");

TEST_CASE("a body runs only on request, up to its next yield") {
  std::string log;
  ints g([&] {
    log += "a";
    ints::yield(1);
    log += "b";
    ints::yield(2);
    log += "c";
  });
  CHECK(log.empty());
  CHECK(g.next() == 1);
  CHECK(log == "a");
  CHECK(g.next() == 2);
  CHECK(log == "ab");
  CHECK(g.next() == std::nullopt);
  CHECK(log == "abc");
  CHECK(g.done());
  CHECK(g.next() == std::nullopt);
}

TEST_CASE("a body may yield from functions that it calls, to any depth") {
  CHECK(all(ints([] { range(0, 4); })) == std::vector{0, 1, 2, 3});
  CHECK(all(ints([] { countdown(5); })) == std::vector{5, 4, 3, 2, 1});
}

TEST_CASE("a range-for may stop early, and another may resume it") {
  ints g([] { range(0, 6); });
  for (int i : g) {
    if (i == 2) break;
  }
  std::vector<int> rest;
  for (int i : g) rest.push_back(i);
  CHECK(rest == std::vector{3, 4, 5});
}

TEST_CASE("values move through, so that they need not be copyable") {
  using owned = std::unique_ptr<int>;
  generator<owned, owned> g([] {
    auto got = generator<owned, owned>::yield(std::make_unique<int>(1));
    generator<owned, owned>::yield(std::move(*got));
  });
  CHECK(**g.next() == 1);
  CHECK(**g.send(std::make_unique<int>(7)) == 7);
}

TEST_CASE("yield returns the value sent, and an empty optional for next()") {
  echo g([] {
    auto got = echo::yield("ready");
    for (;;) got = echo::yield(got ? *got + "!" : "nothing");
  });
  CHECK(g.next() == "ready");
  CHECK(g.send("hey") == "hey!");
  CHECK(g.next() == "nothing");
  CHECK(g.send("ho") == "ho!");
}

TEST_CASE("sending a value to a generator that has not begun is an error, and it can still begin") {
  echo g([] { echo::yield("first"); });
  CHECK_THROWS_WITH_AS(g.send("too early"), "cannot send a value to a generator that has not begun",
                       generator_error);
  CHECK(g.next() == "first");
  CHECK(g.send("x") == std::nullopt);
  CHECK(g.send("x") == std::nullopt);
}

TEST_CASE("returned() has the body's result after its end") {
  generator<int, void, std::string> g([] {
    range(0, 1);
    return std::string("sum");
  });
  using all_of_it = generator<int, void, std::string>;
  all_of_it h([] {
    all_of_it::yield(1);
    return std::string("done");
  });
  CHECK(h.next() == 1);
  CHECK_FALSE(h.returned());
  CHECK(h.next() == std::nullopt);
  CHECK(h.returned() == "done");
  CHECK_THROWS_AS(g.next(), generator_error);  // range() yields values of another type
}

TEST_CASE("an exception of the body reaches the consumer, and ends the body") {
  ints g([] {
    ints::yield(1);
    throw std::runtime_error("broken");
  });
  CHECK(g.next() == 1);
  CHECK_THROWS_WITH(g.next(), "broken");
  CHECK(g.done());
  CHECK_FALSE(g.returned());
  CHECK(g.next() == std::nullopt);
}

TEST_CASE(
    "an exception that is thrown into a generator may be caught there, and the next value is "
    "returned") {
  ints g([] {
    for (int i = 0;; i++) {
      try {
        ints::yield(i);
      } catch (const std::runtime_error&) {
        ints::yield(-i);
      }
    }
  });
  CHECK(g.next() == 0);
  CHECK(g.next() == 1);
  CHECK(g.throw_(std::runtime_error("x")) == -1);
  CHECK(g.next() == 2);
  CHECK_THROWS_WITH(g.throw_(std::logic_error("not caught")), "not caught");
  CHECK(g.next() == std::nullopt);
}

TEST_CASE("throw_ into a generator that has not begun, or has ended, throws the exception itself") {
  bool ran = false;
  ints g([&] { ran = true; });
  CHECK_THROWS_WITH(g.throw_(std::runtime_error("early")), "early");
  CHECK(g.done());
  CHECK_FALSE(ran);
  CHECK_THROWS_WITH(g.throw_(std::runtime_error("late")), "late");
  CHECK(g.next() == std::nullopt);
}

TEST_CASE("closing raises generator_exit at the yield, which runs destructors") {
  std::string log;
  ints g([&] {
    says outer{log, "outer "};
    try {
      says inner{log, "inner "};
      ints::yield(1);
    } catch (const generator_exit&) {
      log += "exit ";
      throw;
    }
  });
  g.next();
  g.close();
  CHECK(log == "inner exit outer ");
  CHECK(g.done());
  g.close();
  CHECK(g.next() == std::nullopt);
}

TEST_CASE("a closed body may return instead of passing generator_exit on") {
  ints g([] {
    try {
      ints::yield(1);
    } catch (const generator_exit&) {}
  });
  g.next();
  g.close();
  CHECK(g.done());
}

TEST_CASE("a generator that is closed before it began never runs, and its body is destroyed") {
  bool ran = false;
  auto held = std::make_shared<int>(1);
  ints g([&ran, held] { ran = true; });
  CHECK(held.use_count() == 2);
  g.close();
  CHECK(held.use_count() == 1);
  CHECK_FALSE(ran);
  CHECK(g.next() == std::nullopt);
}

TEST_CASE("a body that yields after generator_exit is an error") {
  ints g([] {
    for (;;) {
      try {
        ints::yield(1);
      } catch (const generator_exit&) {}
    }
  });
  g.next();
  CHECK_THROWS_WITH_AS(g.close(), "the generator ignored generator_exit", generator_error);
  CHECK(g.next() == 1);
}

TEST_CASE("close() throws another exception of the body") {
  ints g([] {
    try {
      ints::yield(1);
    } catch (const generator_exit&) {
      throw std::runtime_error("while closing");
    }
  });
  g.next();
  CHECK_THROWS_WITH(g.close(), "while closing");
}

TEST_CASE("a generator that is running already cannot be resumed") {
  ints* self = nullptr;
  std::string next, close, thrown;
  ints g([&] {
    auto message = [](auto call) -> std::string {
      try {
        call();
      } catch (const generator_error& e) {
        return e.what();
      }
      return "";
    };
    CHECK(self->running());
    next = message([&] { self->next(); });
    close = message([&] { self->close(); });
    thrown = message([&] { self->throw_(std::runtime_error("x")); });
    ints::yield(1);
  });
  self = &g;
  CHECK(g.next() == 1);
  CHECK(next == "the generator is running already");
  CHECK(close == next);
  CHECK(thrown == next);
  CHECK_FALSE(g.running());
}

TEST_CASE("yield outside a generator of that type is an error") {
  CHECK_THROWS_AS(ints::yield(1), generator_error);
  CHECK_THROWS_AS(spawn([] { ints::yield(1); }).get(), generator_error);
  fiber<> f([] { ints::yield(1); });
  CHECK_THROWS_AS(f.switch_to(), generator_error);
  echo g([] { ints::yield(1); });
  CHECK_THROWS_AS(g.next(), generator_error);
}

TEST_CASE("yield_from yields all values of another generator, and returns its result") {
  using summing = generator<int, void, int>;
  auto inner = [](int n) {
    return summing([n] {
      for (int i = 0; i < n; i++) summing::yield(i);
      return n;
    });
  };
  summing g([&] { return summing::yield_from(inner(2)) + summing::yield_from(inner(3)); });
  std::vector<int> got;
  for (int i : g) got.push_back(i);
  CHECK(got == std::vector{0, 1, 0, 1, 2});
  CHECK(g.returned() == 5);
}

TEST_CASE("yield_from takes any range") {
  CHECK(all(ints([] {
          ints::yield_from(std::vector{1, 2});
          ints::yield_from(std::list{3, 4});
        })) == std::vector{1, 2, 3, 4});
}

TEST_CASE("yield_from passes sent values and thrown exceptions to the inner generator") {
  echo g([] {
    echo inner([] {
      for (;;) {
        try {
          auto got = echo::yield("inner");
          echo::yield(got ? "inner got " + *got : "inner got nothing");
        } catch (const std::runtime_error& e) {
          echo::yield(std::string("inner caught ") + e.what());
        }
      }
    });
    echo::yield_from(inner);
  });
  CHECK(g.next() == "inner");
  CHECK(g.send("x") == "inner got x");
  CHECK(g.next() == "inner");
  CHECK(g.throw_(std::runtime_error("y")) == "inner caught y");
  CHECK(g.next() == "inner");
}

TEST_CASE("closing a generator closes the one that it delegates to first") {
  std::string log;
  ints g([&] {
    says outer{log, "outer "};
    ints inner([&] {
      says s{log, "inner "};
      range(0, 10);
    });
    ints::yield_from(inner);
  });
  CHECK(g.next() == 0);
  g.close();
  CHECK(log == "inner outer ");
}

TEST_CASE("closing a generator closes the one that it delegates to, whoever owns that one") {
  std::string log;
  ints inner([&] {
    says s{log, "inner "};
    range(0, 10);
  });
  ints g([&] {
    says outer{log, "outer "};
    ints::yield_from(inner);
  });
  CHECK(g.next() == 0);
  g.close();
  CHECK(log == "inner outer ");
  CHECK(inner.done());
}

TEST_CASE("yield_from throws an exception of the inner generator") {
  ints g([] {
    try {
      ints::yield_from(ints([] {
        ints::yield(1);
        throw std::runtime_error("inner");
      }));
    } catch (const std::runtime_error&) {
      ints::yield(2);
    }
  });
  CHECK(all(std::move(g)) == std::vector{1, 2});
}

TEST_CASE("a generator that goes out of scope is closed") {
  std::string log;
  {
    ints g([&] {
      says s{log, "gone"};
      range(0, 10);
    });
    g.next();
    CHECK(log.empty());
  }
  CHECK(log == "gone");
}

TEST_CASE("a generator that ignores close() is unwound by fiber_exit when it goes out of scope") {
  std::string log;
  {
    ints g([&] {
      says s{log, "gone"};
      for (;;) {
        try {
          ints::yield(1);
        } catch (const generator_exit&) {}
      }
    });
    g.next();
  }
  CHECK(log == "gone");
}

TEST_CASE("a suspended fiber that owns a suspended generator is unwound with its last handle") {
  std::string log;
  {
    fiber<> f([&] {
      says s{log, "owner"};
      ints g([&] {
        says t{log, "body "};
        range(0, 10);
      });
      g.next();
      fiber<>::current().parent().switch_to();
    });
    f.switch_to();
    CHECK(log.empty());
  }
  CHECK(log == "body owner");
}

TEST_CASE("a body may wait: the consumer waits too, and others run") {
  ints g([] {
    for (int i = 0; i < 3; i++) {
      sleep(1ms);
      ints::yield(i);
    }
  });
  std::vector<int> got;
  auto asks = spawn([&] {
    for (int i : g) got.push_back(i);
  });
  bool other_ran = false;
  auto other = spawn([&] { other_ran = got.empty(); });
  asks.join();
  CHECK(other_ran);
  CHECK(got == std::vector{0, 1, 2});
}

TEST_CASE("while a generator runs for one task, another cannot resume it") {
  ints g([] {
    sleep(1ms);
    ints::yield(1);
  });
  auto first = spawn([&] { return g.next(); });
  auto second = spawn([&] { return g.next(); });
  CHECK_THROWS_AS(second.get(), generator_error);
  CHECK(first.get() == 1);
}

TEST_CASE("different fibers may resume a generator in turn") {
  ints g([] { range(0, 100); });
  std::vector<int> got;
  auto ask = [&] {
    for (int k = 0; k < 3; k++) {
      got.push_back(*g.next());
      yield();
    }
  };
  std::vector<task<void>> tasks{spawn(ask), spawn(ask)};
  joinall(tasks);
  CHECK(got == std::vector{0, 1, 2, 3, 4, 5});
}

TEST_CASE("a generator cannot be resumed on another kernel thread") {
  ints g([] { range(0, 3); });
  CHECK(g.next() == 0);
  bool refused = false;
  std::thread([&] {
    try {
      g.next();
    } catch (const fiber_error&) {
      refused = true;
    }
  }).join();
  CHECK(refused);
  CHECK(g.next() == 1);
}

TEST_CASE("a body may destroy its own generator, and goes on to its end") {
  std::string log;
  // Whatever memory the generator has given back is somebody else's, who finds it as it was.
  std::vector<std::vector<unsigned char>> others;
  std::unique_ptr<ints> g;
  g = std::make_unique<ints>([&] {
    ints::yield(1);
    g.reset();
    for (size_t i = 0; i < 100; i++) others.emplace_back(16 * (i % 20 + 1), 0xff);
    log += "destroyed ";
    struct at_end {
      std::string& log;
      ~at_end() { log += "unwound"; }
    } end{log};
  });
  CHECK(g->next() == 1);
  CHECK_FALSE(g->next().has_value());
  CHECK_FALSE(g);
  CHECK(log == "destroyed unwound");
  for (auto& other : others) CHECK(std::ranges::all_of(other, [](int c) { return c == 0xff; }));
}

TEST_SUITE_END();
