// Time-outs: which of several throws, what it ends, and what it does not affect.
#include <doctest/doctest.h>
#include <tendril/event.hpp>
#include <tendril/mutex.hpp>
#include <tendril/posix.hpp>
#include <tendril/queue.hpp>
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

TEST_SUITE_BEGIN("calls whose waits a limit has ended, however they come back");

namespace {

// What C code does: waits by a POSIX call, and turns its failure into a value.
int reads(int fd) {
  char c;
  return posix::read(fd, &c, 1) < 0 ? -1 : 0;
}
struct silent_pipe {
  int fd[2];
  silent_pipe() { REQUIRE(::pipe(fd) == 0); }
  ~silent_pipe() { ::close(fd[0]), ::close(fd[1]); }
};

}  // namespace

TEST_CASE("with_timeout reports a time-out that a C function has turned into a value") {
  silent_pipe p;
  CHECK_THROWS_AS(with_timeout(5ms, [&] { return reads(p.fd[0]); }), timeout_error);
  CHECK(with_timeout(
            5ms, [&] { return reads(p.fd[0]); }, 77) == 77);
  CHECK_FALSE(move_on_after(5ms, [&] { reads(p.fd[0]); }));
}

TEST_CASE("with_timeout reports a time-out whose exception the function has caught") {
  CHECK_THROWS_AS(with_timeout(5ms,
                               [] {
                                 try {
                                   tendril::sleep(1h);
                                 } catch (const timeout_error&) {}
                                 return 1;
                               }),
                  timeout_error);
}

TEST_CASE("after the limit each further wait of the function ends at once") {
  int ended = 0;
  CHECK_FALSE(move_on_after(5ms, [&] {
    for (int i = 0; i < 3; i++) {
      try {
        tendril::sleep(1h);
      } catch (const timeout_error&) {
        ended++;
      }
    }
  }));
  CHECK(ended == 3);
  tendril::sleep(1ms);  // none of a later one
}

TEST_CASE(
    "another exception of a function whose wait the limit has ended is nested in the time-out") {
  silent_pipe p;
  std::string inner;
  try {
    with_timeout(5ms, [&] {
      if (reads(p.fd[0]) < 0) throw std::runtime_error("cannot read");
    });
  } catch (const timeout_error& e) {
    try {
      std::rethrow_if_nested(e);
    } catch (const std::runtime_error& e) {
      inner = e.what();
    }
  }
  CHECK(inner == "cannot read");
}

TEST_CASE("a limit that has ended no wait takes no value and no exception away") {
  auto waits_too_long = [](auto f) {
    return [f] {
      auto end = tendril::clock::now() + 3ms;
      while (tendril::clock::now() < end) {}
      return f();
    };
  };
  CHECK(with_timeout(1ms, waits_too_long([] { return 5; })) == 5);
  CHECK(move_on_after(1ms, waits_too_long([] {})));
  CHECK_THROWS_AS(with_timeout(1ms, waits_too_long([]() -> int { throw std::logic_error("x"); })),
                  std::logic_error);
  tendril::queue<int> q;
  q.put(3);
  CHECK(with_timeout(1ms, waits_too_long([&] { return *q.try_get(); })) == 3);
}

TEST_CASE("of two limits of C code the one that ended its wait is reported, by its own scope") {
  silent_pipe p;
  CHECK(with_timeout(1h, [&] {
          return with_timeout(
              5ms, [&] { return reads(p.fd[0]); }, 77);
        }) == 77);
  // The outer one ends the wait in the inner's function, whose value the inner lets pass.
  bool passed = false;
  CHECK_FALSE(move_on_after(5ms, [&] {
    CHECK(with_timeout(
              1h, [&] { return reads(p.fd[0]); }, 77) == -1);
    passed = true;
  }));
  CHECK(passed);
}

TEST_CASE("a kill goes first: it leaves with_timeout as it is") {
  auto t = spawn([] { with_timeout(1h, [] { tendril::sleep(1h); }); });
  yield();
  t.kill();
  CHECK_THROWS_AS(t.get(), fiber_exit);
}

TEST_CASE("a killed task ends as killed, whatever C code has made of the wait that failed") {
  silent_pipe p;
  auto value = spawn([&] { return reads(p.fd[0]); });
  auto error = spawn([&] {
    if (reads(p.fd[0]) < 0) throw std::runtime_error("cannot read");
  });
  yield();
  value.kill();
  error.kill();
  CHECK_THROWS_AS(value.get(), fiber_exit);
  CHECK_THROWS_AS(error.get(), fiber_exit);
  auto with_another = spawn([&] { return reads(p.fd[0]); });
  yield();
  with_another.kill(std::logic_error("enough"));
  CHECK_THROWS_AS(with_another.get(), std::logic_error);
}

TEST_CASE("a kill that has ended no wait takes no value away") {
  task<int> t;
  t = spawn([&] {
    t.request_kill();
    return 5;
  });
  CHECK(t.get() == 5);
}

TEST_SUITE_END();
