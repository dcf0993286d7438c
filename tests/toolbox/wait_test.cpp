// Waiting for several objects at once, and what else tasks offer to waiters: links, killall,
// gather, wait_for.
#include <doctest/doctest.h>
#include <tendril/async_result.hpp>
#include <tendril/event.hpp>
#include <tendril/latch.hpp>
#include <tendril/semaphore.hpp>
#include <tendril/timeout.hpp>
#include <tendril/wait.hpp>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

using namespace tendril;
using namespace std::chrono_literals;

namespace {

task<int> after_turns(int turns, int result) {
  return spawn([=] {
    for (int i = 0; i < turns; i++) yield();
    return result;
  });
}

}  // namespace

TEST_SUITE_BEGIN("wait");

TEST_CASE("iwait returns tasks in the order of their end, ended ones first") {
  std::vector tasks{after_turns(5, 0), after_turns(1, 1), after_turns(3, 2)};
  std::vector<int> order;
  for (auto& t : iwait(tasks)) order.push_back(t.get());
  CHECK(order == std::vector{1, 2, 0});
  order.clear();
  for (auto& t : as_completed(tasks)) order.push_back(t.get());
  CHECK(order == std::vector{0, 1, 2});
}

TEST_CASE("what becomes ready while another is taken comes behind those that were ready before") {
  event a, b, c;
  auto ready = iwait(std::vector{&a, &b, &c});
  b.set();
  a.set();
  yield();
  CHECK(ready.next() == &b);
  c.set();
  yield();
  CHECK(ready.next() == &a);
  CHECK(ready.next() == &c);
  CHECK_FALSE(ready.next());
}

TEST_CASE(
    "wait returns as soon as `count` objects are ready, or at the time-out with the ready ones") {
  std::vector tasks{spawn([] { sleep(1h); }), spawn([] {}), spawn([] {})};
  CHECK(tendril::wait(tasks, forever, 1).size() == 1);
  CHECK(tendril::wait(tasks, 1ms).size() == 2);
  CHECK(tendril::wait(tasks, forever, 2).size() == 2);
  CHECK(tendril::wait(std::vector<task<void>>{}).empty());
  tasks[0].kill();
  CHECK(tendril::wait(tasks).size() == 3);
}

TEST_CASE("tasks, events, async_results, semaphores and latches may be waited for in any mixture") {
  event e;
  async_result<int> r;
  semaphore s(0);
  latch l(1);
  auto t = spawn([] { sleep(1h); });
  std::vector<waitable> all_of{e, r, s, l, t};
  auto setter = spawn([&] {
    l.count_down();
    s.release();
    r.set(1);
    e.set();
  });
  auto ready = tendril::wait(all_of, forever, 4);
  CHECK(ready == std::vector<waitable>{l, s, r, e});
  CHECK(s.value() == 1);  // waited for, but not taken
  t.kill();
  CHECK(tendril::wait(all_of, 0s).size() == 5);
}

TEST_CASE("objects may be given by pointers and references") {
  event a, b;
  a.set();
  CHECK(tendril::wait(std::vector{&a, &b}, 0s) == std::vector{&a});
  CHECK(tendril::wait(std::vector{std::ref(a), std::ref(b)}, forever, 1).size() == 1);
  auto shared = std::make_shared<event>();
  CHECK(tendril::wait(std::vector{shared}, 0s).empty());
}

TEST_CASE("a wait that gives up leaves nothing behind") {
  event e;
  semaphore s(0);
  auto t = spawn([&] { tendril::wait(std::vector<waitable>{e, s}); });
  yield();
  t.kill();
  CHECK(tendril::wait(std::vector<waitable>{e, s}, 1ms).empty());
  s.release();
  CHECK(s.value() == 1);
  e.set();
}

TEST_CASE("waiting for ten thousand tasks takes linear time") {
  std::vector<task<int>> tasks;
  for (int i = 0; i < 10'000; i++) tasks.push_back(after_turns(i % 3, i));
  std::size_t n = 0;
  for (auto& t : iwait(tasks)) n += t.ready();
  CHECK(n == tasks.size());
}

TEST_CASE("a wait that nothing can end throws loop_exit") {
  event e;
  CHECK_THROWS_AS(tendril::wait(std::vector{&e}), loop_exit);
}

TEST_CASE("joinall with options: count, the first error, a time-out") {
  std::vector tasks{after_turns(4, 0), spawn([]() -> int { throw std::runtime_error("bad"); }),
                    after_turns(1, 2)};
  CHECK(joinall(tasks, join_options{.count = 1}).size() == 1);
  CHECK_THROWS_WITH(joinall(tasks, join_options{.raise_error = true}), "bad");
  CHECK(joinall(tasks, join_options{}).size() == 3);
  std::vector slow{spawn([] { sleep(1h); })};
  CHECK(joinall(slow, join_options{.timeout = 1ms}).empty());
  slow[0].kill();
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("gather and wait_for");

TEST_CASE("gather returns the results in the order given") {
  auto [a, b, c] =
      gather(after_turns(3, 1), spawn([] { return std::string("two"); }), spawn([] {}));
  CHECK(a == 1);
  CHECK(b == "two");
  CHECK(c == std::monostate{});
  CHECK(gather(std::vector{after_turns(2, 5), after_turns(1, 6)}) == std::vector{5, 6});
  gather(std::vector{spawn([] {})});
}

TEST_CASE("gather throws the first error, and the others run on; killing gather kills them") {
  auto slow = spawn([] { return sleep(1h), 1; });
  CHECK_THROWS_WITH(gather(slow, spawn([]() -> int { throw std::runtime_error("bad"); })), "bad");
  CHECK_FALSE(slow.ready());
  auto t = spawn([&] { gather(slow); });
  yield();
  t.kill();
  slow.join();
  CHECK(slow.ready());
}

TEST_CASE(
    "wait_for kills the task at its time-out, or if it is killed itself; shield prevents that") {
  CHECK(wait_for(after_turns(1, 3), 1h) == 3);
  auto slow = spawn([] { sleep(1h); });
  CHECK_THROWS_AS(wait_for(slow, 1ms), timeout_error);
  CHECK(slow.ready());
  auto inner = spawn([] { sleep(1h); });
  auto outer = spawn([&] { wait_for(inner, 1h); });
  yield();
  outer.kill();
  CHECK(inner.ready());
  auto kept = spawn([] { return sleep(3ms), 4; });
  CHECK_THROWS_AS(wait_for(shield(kept), 1ms), timeout_error);
  CHECK(kept.get() == 4);
}

TEST_CASE("nothing interrupts shielded code; a kill takes effect at the next wait after it") {
  std::string log;
  event go;
  auto t = spawn([&] {
    shield([&] { go.wait(), yield(), log += "done "; });
    yield();
    log += "not reached";
  });
  yield();
  t.request_kill();
  yield();
  CHECK_FALSE(t.ready());
  go.set();
  t.join();
  CHECK(log == "done ");
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("links and killall");

TEST_CASE("links are called in their order when the task has ended, with the task") {
  std::vector<int> order;
  auto t = after_turns(1, 42);
  t.link([&](const task<int>& ended) {
    CHECK(ended.ready());
    CHECK(ended == t);
    order.push_back(ended.get());
  });
  t.link([&] { order.push_back(2); });
  auto taken_back = t.link([&] { order.push_back(3); });
  CHECK(t.unlink(taken_back));
  CHECK_FALSE(t.unlink(taken_back));
  any_task(t).link([&](const any_task& ended) { order.push_back(ended.successful() ? 4 : 5); });
  t.join();
  yield();
  CHECK(order == std::vector{42, 2, 4});
}

TEST_CASE("a link to a task that has ended is called at once") {
  auto t = spawn([] {});
  t.join();
  int called = 0;
  t.link([&] { called++; });
  t.link_value([&] { called++; });
  t.link_exception([&] { called += 10; });
  CHECK(called == 2);
}

TEST_CASE("link_value is called for success, including a kill; link_exception for an exception") {
  std::string log;
  auto listen = [&](auto& t) {
    t.link_value([&] { log += "value "; });
    t.link_exception([&](const any_task& ended) { log += ended.exception() ? "exception " : "?"; });
  };
  auto good = spawn([] {});
  auto bad = spawn([] { throw 1; });
  auto killed = spawn([] { sleep(1h); });
  listen(good), listen(bad), listen(killed);
  joinall(std::vector{good, bad});
  yield();
  killed.kill();
  CHECK(log == "value exception value ");
}

TEST_CASE("links made through an any_task are called in the same cases") {
  std::string log;
  auto listen = [&](const any_task& t) {
    t.link_value([&] { log += "value "; });
    t.link_exception([&](const any_task& ended) { log += ended.exception() ? "exception " : "?"; });
  };
  auto good = spawn([] {});
  auto bad = spawn([] { throw 1; });
  listen(good), listen(bad);
  joinall(std::vector{good, bad});
  yield();
  CHECK(log == "value exception ");
}

TEST_CASE("a link callback that waits gets an error; one that throws affects no other") {
  std::string told;
  auto t = spawn([] {});
  t.link([&] {
    try {
      sleep(1ms);
    } catch (const error& e) {
      told = e.what();
    }
  });
  t.link([] { throw std::runtime_error("expected by a test"); });
  bool last = false;
  t.link([&] { last = true; });
  t.join();
  yield();
  CHECK(told == "a link callback cannot wait");
  CHECK(last);
}

TEST_CASE("killall kills all before it waits for any, also those that have not begun") {
  int ended = 0;
  struct count {
    int& n;
    ~count() { n++; }
  };
  std::vector<task<void>> tasks;
  for (int i = 0; i < 3; i++) {
    tasks.push_back(spawn([&] {
      count c{ended};
      sleep(1h);
    }));
  }
  yield();
  tasks.push_back(spawn([&] { FAIL("never begins"); }));
  killall(tasks);
  CHECK(ended == 3);
  for (auto& t : tasks) CHECK(t.ready());
  std::vector stubborn{spawn([] {
    for (int i = 0; i < 2; i++) {
      try {
        sleep(1h);
      } catch (const fiber_exit&) {}
    }
  })};
  yield();
  CHECK_FALSE(killall(stubborn, 0s));
  killall(stubborn, std::runtime_error("now"));
  CHECK(stubborn[0].ready());
}

TEST_CASE(
    "spawn_later begins after its delay, in the order of the delays, and not if it is killed "
    "before") {
  std::vector<int> order;
  auto add = [&](int i) { order.push_back(i); };
  auto late = spawn_later(3ms, add, 3);
  auto early = spawn_later(1ms, add, 1);
  auto never = spawn_later(1h, add, 9);
  never.kill();
  joinall(std::vector{late, early});
  CHECK(order == std::vector{1, 3});
}

TEST_CASE("get with a time-out throws timeout_error, and the task runs on") {
  auto t = spawn([] { return sleep(2ms), 5; });
  CHECK_THROWS_AS(t.get(0ms), timeout_error);
  CHECK(t.get(1h) == 5);
}

TEST_SUITE_END();
