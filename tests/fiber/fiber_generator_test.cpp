// Generators, built on the explicit switch alone, and generators within generators.
#include <doctest/doctest.h>
#include <tendril/fiber.hpp>

#include <functional>
#include <optional>
#include <string>
#include <vector>

using namespace tendril;

namespace {

// A generator is a fiber whose parent is the consumer of the next item; an empty item marks the
// end.
template <class T>
class generator {
 public:
  using item = std::optional<T>;

  explicit generator(std::function<void()> body)
      : fiber_([body = std::move(body)](item) -> item {
          body();
          return {};
        }) {}
  generator(generator&&) = default;
  // Close explicitly: the generators that this one uses hold it as their parent, so the last handle
  // may be elsewhere.
  ~generator() {
    if (!fiber_) return;
    fiber_.parent(current_fiber());
    fiber_.throw_();
  }

  item next() {
    if (fiber_.dead()) return {};
    fiber_.parent(current_fiber());
    return fiber_.switch_to();
  }
  // Hands an item to the running generator's consumer, or to that of the generator `level` above
  // it.
  static void yield(T value, int level = 1) {
    any_fiber g = current_fiber();
    while (level-- > 0) {
      g = g.parent();
      if (!g.valid()) throw std::logic_error("yield outside a generator");
    }
    fiber<item> asker(g);
    g = {};
    asker.switch_to(std::move(value));
  }
  std::vector<T> all() {
    std::vector<T> v;
    while (item i = next()) v.push_back(std::move(*i));
    return v;
  }

 private:
  fiber<item> fiber_;
};

void range(int n) {
  for (int i = 0; i < n; i++) generator<int>::yield(i);
}

// Recursive: first the items of the inner generator of n - 1, then n.
void countup(int n) {
  if (n == 0) return;
  generator<int> inner([n] { countup(n - 1); });
  while (auto i = inner.next()) generator<int>::yield(*i);
  generator<int>::yield(n);
}

using letters = std::string;
void permutations(letters l) {
  if (l.size() <= 1) return generator<letters>::yield(l);
  for (std::size_t i = 0; i < l.size(); i++) {
    letters rest = l;
    rest.erase(i, 1);
    generator<letters> inner([rest] { permutations(rest); });
    while (auto p = inner.next()) generator<letters>::yield(l[i] + *p);
  }
}

}  // namespace

TEST_CASE("a generator gives its items one by one, and runs only on request") {
  std::vector<int> seen;
  generator<int> g([&] {
    for (int i = 0; i < 4; i++) {
      seen.push_back(i + 1);
      generator<int>::yield(i);
    }
  });
  CHECK(seen.empty());
  for (int k = 0; k < 4; k++) {
    CHECK(g.next() == k);
    CHECK(seen.size() == std::size_t(k) + 1);
  }
  CHECK(g.next() == std::nullopt);
  CHECK(g.next() == std::nullopt);
}

TEST_CASE("a generator may yield from a function that it calls") {
  CHECK(generator<int>([] { range(5); }).all() == std::vector{0, 1, 2, 3, 4});
}

TEST_CASE("generators do not disturb each other") {
  generator<int> a([] { range(3); }), b([] { range(3); });
  CHECK(a.next() == 0);
  CHECK(a.next() == 1);
  CHECK(b.next() == 0);
  CHECK(a.next() == 2);
  CHECK(b.next() == 1);
}

TEST_CASE("a generator may use generators of its own, to any depth") {
  CHECK(generator<int>([] { countup(5); }).all() == std::vector{1, 2, 3, 4, 5});
  std::vector<int> many = generator<int>([] { countup(40); }).all();
  CHECK(many.size() == 40);
  CHECK(many.back() == 40);
}

TEST_CASE("nested generators permute") {
  CHECK(generator<letters>([] { permutations("abc"); }).all() ==
        std::vector<letters>{"abc", "acb", "bac", "bca", "cab", "cba"});
  CHECK(generator<letters>([] { permutations("abcde"); }).all().size() == 120);
}

TEST_CASE("a generator may yield past its consumer, to that one's consumer") {
  generator<int> outer([] {
    generator<int> inner([] {
      for (int i = 1; i < 5; i++) {
        generator<int>::yield(i);           // to outer, which passes it on
        generator<int>::yield(i * 100, 2);  // directly to outer's consumer
      }
    });
    while (auto i = inner.next()) generator<int>::yield(*i);
  });
  CHECK(outer.next() == 1);
  CHECK(outer.next() == 100);
  // outer still waits for inner: resuming outer ends that wait with an empty item, which ends its
  // loop.
  CHECK(outer.next() == std::nullopt);
}

TEST_CASE("a generator's exception reaches its consumer, and ends the generator") {
  generator<int> g([] {
    generator<int>::yield(1);
    throw std::runtime_error("broken");
  });
  CHECK(g.next() == 1);
  CHECK_THROWS_WITH(g.next(), "broken");
  CHECK(g.next() == std::nullopt);
}

TEST_CASE("an exception passes through nested generators") {
  generator<int> outer([] {
    generator<int> inner([] {
      generator<int>::yield(1);
      throw std::runtime_error("deep");
    });
    while (auto i = inner.next()) generator<int>::yield(*i);
  });
  CHECK(outer.next() == 1);
  CHECK_THROWS_WITH(outer.next(), "deep");
}

TEST_CASE("yield outside a generator is an error") {
  CHECK_THROWS_AS(generator<int>::yield(1), std::logic_error);
}

TEST_CASE(
    "a generator that is dropped before its end unwinds its body, and the generators that it "
    "uses") {
  std::string log;
  struct says {
    std::string& log;
    const char* what;
    ~says() { log += what; }
  };
  {
    generator<int> g([&] {
      says outer{log, "outer "};
      generator<int> inner([&] {
        says s{log, "inner "};
        range(10);
      });
      while (auto i = inner.next()) generator<int>::yield(*i);
    });
    CHECK(g.next() == 0);
    CHECK(g.next() == 1);
  }
  CHECK(log == "inner outer ");
}

TEST_CASE("a generator may be resumed from different fibers in turn") {
  generator<int> g([] { range(4); });
  std::vector<int> got;
  auto ask = [&] {
    got.push_back(*g.next());
    fiber<>::current().parent().switch_to();
    got.push_back(*g.next());
  };
  fiber<> a(ask), b(ask);
  a.switch_to();
  b.switch_to();
  a.switch_to();
  b.switch_to();
  CHECK(got == std::vector{0, 1, 2, 3});
}
