// Time-outs: which of several throws, what it ends, and what it does not affect.
#include <doctest/doctest.h>
#include <tendril/event.hpp>
#include <tendril/mutex.hpp>
#include <tendril/posix.hpp>
#include <tendril/task.hpp>
#include <tendril/timeout.hpp>

#include <unistd.h>

#include <cerrno>
#include <mutex>
#include <stdexcept>
#include <string>

using namespace tendril;
using namespace std::chrono_literals;

TEST_SUITE_BEGIN("timeout");

TEST_CASE("a wait that lasts beyond a timeout throws timeout_error with the timeout's id") {
  timeout limit(1ms);
  CHECK(limit.pending());
  try {
    sleep(1h);
    FAIL("not reached");
  } catch (const timeout_error& e) {
    CHECK(limit.threw(e));
    CHECK(e.code() == std::errc::timed_out);
    CHECK_FALSE(timeout(1h).threw(e));
  }
  CHECK(limit.expired());
  CHECK_FALSE(limit.pending());
}

TEST_CASE("a timeout ends every wait: events, locks, joins, yields") {
  event e;
  tendril::mutex m;
  auto t = spawn([&] {
    std::lock_guard lock(m);
    sleep(1h);
  });
  yield();
  CHECK_THROWS_AS(with_timeout(1ms, [&] { e.wait(); }), timeout_error);
  CHECK_THROWS_AS(with_timeout(1ms, [&] { m.lock(); }), timeout_error);
  CHECK_THROWS_AS(with_timeout(1ms, [&] { t.join(); }), timeout_error);
  CHECK_THROWS_AS(with_timeout(1ms,
                               [&] {
                                 for (;;) yield();
                               }),
                  timeout_error);
  CHECK_THROWS_AS(with_timeout(0s, [&] { sleep(1h); }), timeout_error);
  t.kill();
  CHECK_FALSE(m.locked());
}

TEST_CASE(
    "a wait that ends by itself throws nothing, nor does a timeout that is left or cancelled") {
  {
    timeout limit(1h);
    sleep(1ms);
  }
  { timeout limit(1ms); }
  sleep(2ms);
  timeout limit(1ms);
  limit.cancel();
  CHECK_FALSE(limit.pending());
  sleep(2ms);
  limit.cancel();
}

TEST_CASE("a time-out ends one wait: code that catches it may wait again") {
  timeout limit(1ms);
  CHECK_THROWS_AS(sleep(1h), timeout_error);
  CHECK_NOTHROW(sleep(2ms));
}

TEST_CASE("the inner of two timeouts throws if it is earlier, and the outer stays in force") {
  timeout outer(1h);
  try {
    timeout inner(1ms);
    sleep(2h);
  } catch (const timeout_error& e) {
    CHECK_FALSE(outer.threw(e));
  }
  CHECK(outer.pending());
}

TEST_CASE(
    "the outer timeout throws if it is earlier, or if both have passed, and the inner scope does "
    "not catch it") {
  for (auto inner : {clock::duration(1h), clock::duration(0)}) {
    timeout outer(0s);
    try {
      with_timeout(
          inner, [] { sleep(1h); }, 0);
      FAIL("not reached");
    } catch (const timeout_error& e) {
      CHECK(outer.threw(e));
    }
  }
  timeout outer(0s);
  CHECK_THROWS_AS(move_on_after(0s, [] { sleep(1h); }), timeout_error);
  CHECK(outer.expired());
}

TEST_CASE("with_timeout returns the result, or another value, or throws") {
  CHECK(with_timeout(1h, [] { return 1; }) == 1);
  CHECK(with_timeout(
            1h, [] { return std::string("in time"); }, "late") == "in time");
  CHECK(with_timeout(
            1ms, [] { return sleep(1h), std::string("in time"); }, "late") == "late");
  CHECK_THROWS_AS(with_timeout(1ms, [] { sleep(1h); }), timeout_error);
  CHECK_THROWS_WITH(with_timeout(
                        1h, []() -> int { throw std::runtime_error("own"); }, 3),
                    "own");
}

TEST_CASE("move_on_after returns without an exception, and reports whether its function returned") {
  CHECK(move_on_after(1h, [] { yield(); }));
  CHECK_FALSE(move_on_after(1ms, [] { sleep(1h); }));
}

TEST_CASE("a timeout may throw a given exception") {
  timeout limit(1ms, std::runtime_error("too slow"));
  CHECK_THROWS_WITH(sleep(1h), "too slow");
}

TEST_CASE("a timeout belongs to its fiber: others wait on, and a kill goes first") {
  timeout limit(1ms);
  auto other = spawn([] { sleep(3ms); });
  CHECK_THROWS_AS(sleep(1h), timeout_error);
  other.get();
  auto killed = spawn([] {
    timeout passed(0s);
    sleep(1h);
  });
  killed.request_kill(std::runtime_error("killed"));
  CHECK_THROWS_AS(killed.get(), std::runtime_error);
}

TEST_CASE("a cooperative call fails with ECANCELED, and the next wait throws") {
  int p[2];
  REQUIRE(pipe(p) == 0);
  timeout limit(1ms);
  char c;
  CHECK(posix::read(p[0], &c, 1) == -1);
  CHECK(errno == ECANCELED);
  CHECK_THROWS_AS(sleep(1h), timeout_error);
  close(p[0]);
  close(p[1]);
}

TEST_CASE("destructors may wait while a time-out unwinds") {
  bool cleaned = false;
  struct cleanup {
    bool& done;
    ~cleanup() {
      sleep(2ms);
      done = true;
    }
  };
  CHECK_FALSE(move_on_after(1ms, [&] {
    cleanup c{cleaned};
    sleep(1h);
  }));
  CHECK(cleaned);
}

TEST_CASE(
    "a kill that comes while a destructor waits during unwinding takes effect at the next wait "
    "after that") {
  event begun, go;
  std::string log;
  struct cleanup {
    event &begun, &go;
    std::string& log;
    ~cleanup() {
      begun.set();
      go.wait();
      log += "cleaned ";
    }
  };
  auto t = spawn([&] {
    try {
      cleanup c{begun, go, log};
      throw std::runtime_error("error");
    } catch (const std::runtime_error&) {
      log += "caught ";
    }
    sleep(1h);
    log += "not reached";
  });
  begun.wait();
  t.request_kill();
  yield();
  CHECK_FALSE(t.ready());
  go.set();
  t.join();
  CHECK(log == "cleaned caught ");
}

TEST_CASE("when the outer of two time-outs is cancelled, the inner still throws") {
  timeout outer(1h);
  timeout inner(1ms);
  outer.cancel();
  CHECK_FALSE(outer.pending());
  CHECK(inner.pending());
  bool inner_threw = false;
  try {
    sleep(10s);
  } catch (const timeout_error& e) {
    inner_threw = inner.threw(e);
  }
  CHECK(inner_threw);
}

TEST_CASE("when the inner of two time-outs is cancelled, the outer still throws") {
  timeout outer(1ms);
  timeout inner(1h);
  inner.cancel();
  bool outer_threw = false;
  try {
    sleep(10s);
  } catch (const timeout_error& e) {
    outer_threw = outer.threw(e);
  }
  CHECK(outer_threw);
}

TEST_SUITE_END();
