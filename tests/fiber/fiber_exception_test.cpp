// C++ exception state: each fiber has its own, however it is suspended and resumed.
#include <doctest/doctest.h>
#include <tendril/fiber.hpp>
#include <tendril/task.hpp>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using namespace tendril;

namespace {

void to_parent() { fiber<>::current().parent().switch_to(); }

std::string what_is_handled() {
  std::exception_ptr e = std::current_exception();
  if (!e) return "nothing";
  try {
    std::rethrow_exception(e);
  } catch (const std::exception& x) {
    return x.what();
  } catch (const fiber_exit&) {
    return "fiber_exit";
  } catch (...) {
    return "something";
  }
}

}  // namespace

TEST_CASE("a switch inside a catch block keeps the exception that is handled there") {
  fiber<> f([] {
    try {
      throw std::runtime_error("mine");
    } catch (...) {
      to_parent();
      CHECK(what_is_handled() == "mine");
      to_parent();
      CHECK(what_is_handled() == "mine");
    }
    CHECK(what_is_handled() == "nothing");
  });
  f.switch_to();
  CHECK(what_is_handled() == "nothing");
  try {
    throw std::runtime_error("main's");
  } catch (...) {
    f.switch_to();
    CHECK(what_is_handled() == "main's");
  }
  CHECK(what_is_handled() == "nothing");
  f.switch_to();
  CHECK(f.dead());
}

TEST_CASE("a fiber that is made or started inside a catch block handles no exception") {
  try {
    throw std::runtime_error("outer");
  } catch (...) {
    fiber<> f([] {
      CHECK(what_is_handled() == "nothing");
      CHECK(std::uncaught_exceptions() == 0);
      to_parent();
      CHECK(what_is_handled() == "nothing");
    });
    f.switch_to();
    CHECK(what_is_handled() == "outer");
    f.switch_to();
    CHECK(what_is_handled() == "outer");
  }
}

TEST_CASE("`throw;` after switches rethrows the fiber's own exception") {
  std::vector<fiber<>> fibers;
  for (int i = 0; i < 5; i++) {
    fibers.emplace_back([i] {
      try {
        throw std::runtime_error(std::to_string(i));
      } catch (...) {
        to_parent();
        throw;
      }
    });
    fibers.back().switch_to();
  }
  for (int i : {3, 0, 4, 1, 2})
    CHECK_THROWS_WITH(fibers[std::size_t(i)].switch_to(), std::to_string(i).c_str());
}

TEST_CASE("catch blocks of several fibers may be left in any order") {
  std::string left;
  auto body = [&](const char* name, const char* next) {
    return [&left, name, next] {
      try {
        throw std::runtime_error(name);
      } catch (const std::exception& e) {
        to_parent();
        left += e.what();
        CHECK(what_is_handled() == name);
      }
      CHECK(what_is_handled() == "nothing");
      try {
        throw std::runtime_error(next);
      } catch (const std::exception& e) {
        to_parent();
        left += e.what();
      }
    };
  };
  fiber<> a(body("a", "A")), b(body("b", "B"));
  a.switch_to();
  b.switch_to();
  a.switch_to();  // leaves the older handler while the younger exception is handled
  b.switch_to();
  b.switch_to();
  a.switch_to();
  CHECK(left == "abBA");
}

TEST_CASE("nested handlers keep their exceptions across switches") {
  fiber<> f([] {
    try {
      throw std::runtime_error("outer");
    } catch (...) {
      try {
        to_parent();
        throw std::logic_error("inner");
      } catch (...) {
        to_parent();
        CHECK(what_is_handled() == "inner");
      }
      to_parent();
      CHECK(what_is_handled() == "outer");
      try {
        throw;
      } catch (const std::exception& e) {
        to_parent();
        CHECK(std::string(e.what()) == "outer");
      }
    }
  });
  while (!f.dead()) {
    try {
      throw std::runtime_error("between");
    } catch (...) {
      f.switch_to();
      CHECK(what_is_handled() == "between");
    }
  }
}

TEST_CASE("fibers nested in handlers of each other come back to the right ones") {
  fiber<> outer([] {
    try {
      throw std::runtime_error("outer");
    } catch (...) {
      fiber<> inner([] {
        CHECK(what_is_handled() == "nothing");
        try {
          throw std::runtime_error("inner");
        } catch (...) {
          to_parent();
          CHECK(what_is_handled() == "inner");
          throw std::runtime_error("from inner");
        }
      });
      inner.switch_to();
      CHECK(what_is_handled() == "outer");
      try {
        inner.switch_to();
        FAIL("not reached");
      } catch (const std::exception&) {
        CHECK(what_is_handled() == "from inner");
      }
      CHECK(what_is_handled() == "outer");
      throw;
    }
  });
  CHECK_THROWS_WITH(outer.switch_to(), "outer");
  CHECK(what_is_handled() == "nothing");
}

TEST_CASE("a switch in a destructor during unwinding keeps uncaught_exceptions() per fiber") {
  struct switches {
    ~switches() {
      CHECK(std::uncaught_exceptions() == 1);
      to_parent();
      CHECK(std::uncaught_exceptions() == 1);
    }
  };
  fiber<> f([] {
    try {
      switches s;
      throw std::runtime_error("unwinding");
    } catch (const std::exception& e) {
      CHECK(std::string(e.what()) == "unwinding");
      CHECK(std::uncaught_exceptions() == 0);
    }
  });
  f.switch_to();
  CHECK(std::uncaught_exceptions() == 0);
  // Exceptions are thrown and caught here while the fiber's own is in flight.
  try {
    throw std::logic_error("elsewhere");
  } catch (const std::logic_error&) {
    CHECK(std::uncaught_exceptions() == 0);
  }
  struct resumes {
    fiber<>& f;
    ~resumes() {
      CHECK(std::uncaught_exceptions() == 1);
      f.switch_to();
      CHECK(std::uncaught_exceptions() == 1);
    }
  };
  try {
    resumes r{f};
    throw std::logic_error("mine");
  } catch (const std::logic_error&) {
    CHECK(std::uncaught_exceptions() == 0);
  }
  CHECK(f.dead());
}

TEST_CASE("a fiber may run to its end inside a destructor during unwinding") {
  int handled = 0;
  struct runs {
    int& handled;
    ~runs() {
      fiber<> f([this] {
        CHECK(std::uncaught_exceptions() == 0);
        try {
          throw 1;
        } catch (int) {
          handled++;
        }
      });
      f.switch_to();
      CHECK(std::uncaught_exceptions() == 1);
    }
  };
  CHECK_THROWS_AS(([&] {
                    runs r{handled};
                    throw std::runtime_error("x");
                  }()),
                  std::runtime_error);
  CHECK(handled == 1);
}

TEST_CASE(
    "an exception may be thrown into a fiber that is in a handler, and be handled inside that") {
  fiber<> f([] {
    try {
      throw std::runtime_error("first");
    } catch (...) {
      try {
        to_parent();
        FAIL("not reached");
      } catch (const std::logic_error& e) {
        CHECK(what_is_handled() == "second");
        to_parent();
        CHECK(what_is_handled() == "second");
      }
      CHECK(what_is_handled() == "first");
    }
  });
  f.switch_to();
  f.throw_(std::logic_error("second"));
  f.switch_to();
  CHECK(f.dead());
}

TEST_CASE("a fiber that its last handle unwinds during another's unwinding disturbs neither") {
  std::string log;
  struct says {
    std::string& log;
    ~says() { log += "unwound " + std::to_string(std::uncaught_exceptions()); }
  };
  try {
    fiber<> f([&] {
      says s{log};
      to_parent();
    });
    f.switch_to();
    throw std::runtime_error("x");  // drops f
  } catch (const std::exception& e) {
    CHECK(std::string(e.what()) == "x");
  }
  CHECK(log == "unwound 1");
  CHECK(std::uncaught_exceptions() == 0);
}

TEST_CASE("a fiber that is unwound while it handles an exception releases the exception") {
  auto held = std::make_shared<int>();
  struct carries {
    std::shared_ptr<int> p;
  };
  {
    fiber<> f([&] {
      try {
        throw carries{held};
      } catch (const carries&) {
        to_parent();
      }
    });
    f.switch_to();
    CHECK(held.use_count() == 2);
  }
  CHECK(held.use_count() == 1);
}

TEST_CASE("an exception that is handled in one fiber may be rethrown in another") {
  std::exception_ptr e;
  fiber<> f([&] {
    try {
      throw std::runtime_error("shared");
    } catch (...) {
      e = std::current_exception();
      to_parent();
      CHECK(what_is_handled() == "shared");
    }
  });
  f.switch_to();
  CHECK_THROWS_WITH(std::rethrow_exception(e), "shared");
  fiber<> g([&] { std::rethrow_exception(e); });
  CHECK_THROWS_WITH(g.switch_to(), "shared");
  e = nullptr;
  f.switch_to();
}

TEST_CASE("tasks keep their exception state while they wait in the hub") {
  auto body = [](const char* name) {
    return [name] {
      try {
        throw std::runtime_error(name);
      } catch (...) {
        for (int i = 0; i < 3; i++) {
          yield();
          CHECK(what_is_handled() == name);
        }
        throw;
      }
    };
  };
  auto a = spawn(body("a")), b = spawn(body("b"));
  try {
    throw std::runtime_error("main's");
  } catch (...) {
    CHECK_THROWS_WITH(a.get(), "a");
    CHECK(what_is_handled() == "main's");
  }
  CHECK_THROWS_WITH(b.get(), "b");
  CHECK(what_is_handled() == "nothing");
}

TEST_CASE("handlers and unwinding stay correct over many interleaved fibers") {
  constexpr int n = 50;
  std::vector<fiber<>> fibers;
  int right = 0;
  for (int i = 0; i < n; i++) {
    fibers.emplace_back([i, &right] {
      for (int round = 0; round < 10; round++) {
        try {
          struct pause {
            ~pause() { to_parent(); }
          } p;
          throw std::runtime_error(std::to_string(i * 100 + round));
        } catch (...) {
          to_parent();
          if (what_is_handled() == std::to_string(i * 100 + round)) right++;
        }
      }
    });
  }
  for (int step = 0; step < 21; step++) {
    for (int i = 0; i < n; i++) fibers[std::size_t((i * 7 + step) % n)].switch_to();
  }
  for (auto& f : fibers) CHECK(f.dead());
  CHECK(right == n * 10);
}
