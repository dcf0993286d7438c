// Events, async_results, latches: which waiters wake, in which order, and what a time-out or a kill
// leaves behind.
#include <doctest/doctest.h>
#include <tendril/async_result.hpp>
#include <tendril/event.hpp>
#include <tendril/latch.hpp>
#include <tendril/task.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using namespace tendril;
using namespace std::chrono_literals;

TEST_SUITE_BEGIN("event");

TEST_CASE("a new event is not set; wait returns at once when it is") {
  event e;
  CHECK_FALSE(e.is_set());
  e.set();
  CHECK(e.is_set());
  e.wait();
  CHECK(e.wait(0s));
  e.clear();
  CHECK_FALSE(e.is_set());
  CHECK_FALSE(e.wait(0s));
}

TEST_CASE("set wakes all waiters, in the order of their arrival") {
  event e;
  std::vector<int> order;
  std::vector<task<void>> tasks;
  for (int i = 0; i < 5; i++) {
    tasks.push_back(spawn([&, i] {
      e.wait();
      order.push_back(i);
    }));
  }
  yield();
  CHECK(order.empty());
  e.set();
  joinall(tasks);
  CHECK(order == std::vector{0, 1, 2, 3, 4});
}

TEST_CASE("waiters wake after set even if the event is cleared before they run") {
  event e;
  auto t = spawn([&] { return e.wait(1h); });
  yield();
  e.set();
  e.clear();
  CHECK(t.get());
  CHECK_FALSE(e.is_set());
}

TEST_CASE("a time-out returns whether the event was set, and leaves the others waiting") {
  event e;
  auto patient = spawn([&] { return e.wait(1h); });
  auto hasty = spawn([&] { return e.wait(1ms); });
  CHECK_FALSE(hasty.get());
  CHECK_FALSE(patient.ready());
  e.set();
  CHECK(patient.get());
}

TEST_CASE("a waiter that is killed leaves the others waiting") {
  event e;
  auto a = spawn([&] { e.wait(); });
  auto b = spawn([&] { e.wait(); });
  auto c = spawn([&] { e.wait(); });
  yield();
  b.kill();
  CHECK_FALSE(a.ready());
  e.set();
  joinall(std::vector{a, c});
  CHECK(c.successful());
}

TEST_CASE("a wait for an event that no fiber can set throws loop_exit") {
  event e;
  CHECK_THROWS_AS(e.wait(), loop_exit);
  e.set();
  e.wait();
}

TEST_CASE("thousands of fibers wait for one event") {
  event e;
  int woken = 0;
  std::vector<task<void>> tasks;
  for (int i = 0; i < 10'000; i++) tasks.push_back(spawn([&] { e.wait(), woken++; }));
  yield();
  for (std::size_t i = 0; i < tasks.size(); i += 3) tasks[tasks.size() - 1 - i].request_kill();
  yield();
  e.set();
  joinall(tasks);
  CHECK(woken == 6666);
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("async_result");

TEST_CASE("get waits for the value, and may be called again") {
  async_result<std::string> r;
  CHECK_FALSE(r.ready());
  CHECK_FALSE(r.successful());
  CHECK_THROWS_AS(r.try_get(), timeout_error);
  auto t = spawn([&] { r.set("value"); });
  CHECK(r.get() == "value");
  CHECK(r.get() == "value");
  CHECK(r.try_get() == "value");
  CHECK(r.ready());
  CHECK(r.successful());
  CHECK_FALSE(r.exception());
}

TEST_CASE("get throws the exception that was set; wait does not") {
  async_result<int> r;
  r.set_exception(std::runtime_error("broken"));
  r.wait();
  CHECK(r.ready());
  CHECK_FALSE(r.successful());
  CHECK(r.exception());
  CHECK_THROWS_WITH(r.get(), "broken");
  CHECK_THROWS_WITH(r.get(), "broken");
}

TEST_CASE("a result is set once") {
  async_result<> r;
  r.set();
  CHECK_THROWS_AS(r.set(), error);
  CHECK_THROWS_AS(r.set_exception(1), error);
  r.get();
}

TEST_CASE("get with a time-out throws timeout_error, and the result can still come") {
  async_result<int> r;
  CHECK_THROWS_AS(r.get(1ms), timeout_error);
  CHECK_FALSE(r.wait(0ms));
  r.set(3);
  CHECK(r.get(0ms) == 3);
}

TEST_CASE("all waiters get the value, in the order of their arrival") {
  async_result<int> r;
  std::vector<int> order;
  std::vector<task<void>> tasks;
  for (int i = 0; i < 4; i++) tasks.push_back(spawn([&, i] { order.push_back(i * r.get()); }));
  yield();
  r.set(10);
  joinall(tasks);
  CHECK(order == std::vector{0, 10, 20, 30});
}

TEST_CASE("an async_result set from a task has that task's outcome") {
  async_result<int> value, failure;
  auto good = spawn([] { return 4; });
  good.link(std::ref(value));
  auto bad = spawn([]() -> int { throw std::runtime_error("bad"); });
  bad.link(std::ref(failure));
  CHECK(value.get() == 4);
  CHECK_THROWS_WITH(failure.get(), "bad");
}

TEST_CASE("an async_result may hold a value that can only be moved") {
  async_result<std::unique_ptr<int>> r;
  r.set(std::make_unique<int>(7));
  auto p = std::move(r.get());
  CHECK(*p == 7);
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("latch");

TEST_CASE("a latch opens when it has been counted down to zero, and stays open") {
  latch l(3);
  std::vector<task<void>> tasks;
  int after = 0;
  for (int i = 0; i < 2; i++) tasks.push_back(spawn([&] { l.wait(), after++; }));
  yield();
  l.count_down(2);
  yield();
  CHECK(after == 0);
  CHECK_FALSE(l.try_wait());
  CHECK_FALSE(l.wait(1ms));
  l.arrive_and_wait();
  joinall(tasks);
  CHECK(after == 2);
  CHECK(l.try_wait());
  CHECK_THROWS_AS(l.count_down(), error);
  CHECK_THROWS_AS(latch(-1), error);
  CHECK(latch(0).try_wait());
}

TEST_SUITE_END();
