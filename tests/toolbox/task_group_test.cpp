// Structured task groups: the scope ends when all tasks have ended, and the first error cancels the
// others.
#include <doctest/doctest.h>
#include <tendril/event.hpp>
#include <tendril/task_group.hpp>
#include <tendril/timeout.hpp>

#include <stdexcept>
#include <string>

using namespace tendril;
using namespace std::chrono_literals;

TEST_CASE("the scope ends when all tasks have ended, including those that tasks spawn") {
  int ended = 0;
  with_task_group([&](task_group& g) {
    g.spawn([&] { yield(), ended++; });
    g.spawn([&] {
      g.spawn([&] { yield(), yield(), ended++; });
      ended++;
    });
    CHECK(g.size() == 2);
  });
  CHECK(ended == 3);
}

TEST_CASE("the first error kills the other tasks, and is thrown") {
  std::string log;
  CHECK_THROWS_WITH(with_task_group([&](task_group& g) {
                      g.spawn([&] {
                        try {
                          sleep(1h);
                        } catch (const fiber_exit&) {
                          log += "killed ";
                          throw;
                        }
                      });
                      g.spawn([] { throw std::runtime_error("first"); });
                    }),
                    "first");
  CHECK(log == "killed ");
}

TEST_CASE("an error of a task interrupts the body where it waits") {
  bool reached = false;
  CHECK_THROWS_WITH(with_task_group([&](task_group& g) {
                      g.spawn([] { throw std::runtime_error("task"); });
                      sleep(1h);
                      reached = true;
                    }),
                    "task");
  CHECK_FALSE(reached);
}

TEST_CASE(
    "an error of a task interrupts the body also after the body has joined the earlier tasks") {
  bool slept = false;
  CHECK_THROWS_WITH(with_task_group([&](task_group& g) {
                      g.spawn([] { yield(); });
                      g.join();
                      CHECK(g.size() == 0);
                      g.spawn([] { throw std::runtime_error("late"); });
                      sleep(10s);
                      slept = true;
                    }),
                    "late");
  CHECK_FALSE(slept);
}

TEST_CASE("of two errors, the first is thrown") {
  CHECK_THROWS_WITH(with_task_group([&](task_group& g) {
                      for (const char* what : {"first", "second"}) {
                        g.spawn([what] {
                          try {
                            yield();
                          } catch (const fiber_exit&) {}
                          throw std::runtime_error(what);
                        });
                      }
                    }),
                    "first");
}

TEST_CASE("an error of the body kills the tasks, and is thrown when they have ended") {
  bool unwound = false;
  struct mark {
    bool& b;
    ~mark() { b = true; }
  };
  CHECK_THROWS_WITH(with_task_group([&](task_group& g) {
                      g.spawn([&] {
                        mark m{unwound};
                        sleep(1h);
                      });
                      yield();
                      throw std::runtime_error("body");
                    }),
                    "body");
  CHECK(unwound);
}

TEST_CASE("killing a task does not affect the others; cancel ends them all without an error") {
  bool ended = false;
  with_task_group([&](task_group& g) {
    auto t = g.spawn([] { sleep(1h); });
    g.spawn([&] { yield(), yield(), ended = true; });
    yield();
    t.kill();
  });
  CHECK(ended);
  with_task_group([&](task_group& g) {
    g.spawn([] { sleep(1h); });
    g.cancel();
    CHECK(g.cancelled());
    CHECK_THROWS_AS(g.spawn([] {}), error);
  });
}

TEST_CASE("when the scope's fiber is killed or times out, the tasks are killed first") {
  task<void> inner;
  CHECK_FALSE(move_on_after(
      1ms, [&] { with_task_group([&](task_group& g) { inner = g.spawn([] { sleep(1h); }); }); }));
  CHECK(inner.ready());
  auto outer =
      spawn([&] { with_task_group([&](task_group& g) { inner = g.spawn([] { sleep(1h); }); }); });
  yield();
  outer.kill();
  CHECK(inner.ready());
}

TEST_CASE("a group without a body is joined, or killed by its destructor") {
  int ended = 0;
  task<void> killed;
  {
    task_group g;
    g.spawn([&] { ended++; });
    g.join();
    CHECK(ended == 1);
    killed = g.spawn([] { sleep(1h); });
  }
  CHECK(killed.ready());
  task_group g;
  g.spawn([] { throw std::runtime_error("bad"); });
  CHECK_THROWS_WITH(g.join(), "bad");
}

TEST_CASE("groups nest: an inner error that is handled does not reach the outer") {
  with_task_group([&](task_group& outer) {
    auto t = outer.spawn([] {
      try {
        with_task_group([](task_group& inner) { inner.spawn([] { throw 1; }); });
      } catch (int) {
        return 7;
      }
      return 0;
    });
    CHECK(t.get() == 7);
  });
}
