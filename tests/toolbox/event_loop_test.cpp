// The event loop in asyncio's terms.
#include <doctest/doctest.h>
#include <tendril/event_loop.hpp>
#include <tendril/task_group.hpp>
#include <tendril/thread_pool_executor.hpp>

#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include "written_to.hpp"

using namespace tendril;
using namespace std::chrono_literals;

TEST_CASE("run_until_complete returns what the task returns, and throws what it throws") {
  event_loop loop;
  CHECK(loop.run_until_complete([] { return yield(), 42; }) == 42);
  auto t = loop.create_task([](int x) { return std::to_string(x); }, 7);
  CHECK(loop.run_until_complete(t) == "7");
  CHECK(t.get() == "7");
  CHECK(*loop.run_until_complete([] { return std::make_unique<int>(1); }) == 1);
  CHECK_THROWS_WITH(loop.run_until_complete([] { throw std::runtime_error("task"); }), "task");
}

TEST_CASE("tasks and callbacks begin in the order of their creation") {
  std::string log;
  event_loop loop;
  loop.call_soon([&](char c) { log += c; }, 'a');
  loop.create_task([&] { log += 'b'; });
  loop.call_soon([&] { log += 'c'; });
  CHECK(log == "");
  loop.run_until_complete([] {});
  CHECK(log == "abc");
}

TEST_CASE("call_later and call_at call at their time, and a killed call is never made") {
  event_loop loop;
  int called = 0;
  auto begun = loop.time();
  auto due_after = [&](clock::duration d) {
    CHECK(loop.time() - begun >= d);
    if (++called == 3) loop.stop();
  };
  loop.call_later(2ms, due_after, 2ms);
  loop.call_at(begun + 1ms, due_after, 1ms);
  loop.call_soon(due_after, 0ms);
  loop.call_later(1h, due_after, 1h);
  loop.call_later(0ms, due_after, 1h).kill();
  loop.run_forever();
  CHECK(called == 3);
}

TEST_CASE("stop ends the run, and the next run goes on") {
  event_loop loop;
  int steps = 0;
  auto t = loop.create_task([&] {
    steps++;
    loop.stop();
    yield();
    return ++steps;
  });
  loop.run_forever();
  CHECK(steps == 1);
  CHECK(loop.run_until_complete(t) == 2);

  loop.stop();
  CHECK_THROWS_WITH(loop.run_until_complete([] { sleep(1h); }),
                    "the event loop was stopped before the task had ended");
}

TEST_CASE("get_running_loop returns the running loop, and throws outside") {
  event_loop loop;
  CHECK_THROWS_WITH(get_running_loop(), "no running event loop");
  CHECK(loop.run_until_complete([] { return &get_running_loop(); }) == &loop);
  CHECK(event_loop::running() == nullptr);
}

TEST_CASE("a loop runs once at a time, and only one loop runs on a kernel thread") {
  event_loop loop, other;
  CHECK_THROWS_WITH(loop.run_until_complete([&] { loop.run_forever(); }),
                    "the event loop is running already");
  CHECK_THROWS_WITH(loop.run_until_complete([&] { other.run_forever(); }),
                    "another event loop is running on this kernel thread");
  CHECK_THROWS_WITH(loop.run_until_complete([&] { loop.close(); }),
                    "a running event loop cannot be closed");
  CHECK(loop.run_until_complete([] { return 1; }) == 1);
}

TEST_CASE("a future is completed by set_result, and waited for by any task") {
  event_loop loop;
  auto f = loop.create_future<std::string>();
  loop.create_task([f] { f.set_result("the result"); });
  CHECK_FALSE(f.done());
  CHECK(loop.run_until_complete(f) == "the result");
  CHECK(f.get() == "the result");
  CHECK_THROWS_AS(f.set_result("another"), error);

  auto failed = loop.create_future<void>();
  failed.set_exception(std::runtime_error("bad"));
  CHECK_THROWS_WITH(loop.run_until_complete(failed), "bad");

  auto cancelled = loop.create_future<int>();
  CHECK(cancelled.cancel());
  CHECK_THROWS_AS(cancelled.set_result(1), error);
  CHECK_THROWS_AS(loop.run_until_complete(cancelled), cancelled_error);
}

TEST_CASE(
    "the loop calls done callbacks in the order of adding, also when the future is done already") {
  event_loop loop;
  std::string log;
  auto f = loop.create_future<int>();
  f.add_done_callback([&](const future<int>& done) { log += "a" + std::to_string(done.get()); });
  f.add_done_callback([&](const future<int>&) { log += "b", loop.stop(); });
  f.set_result(1);
  CHECK(log == "");
  loop.run_forever();
  CHECK(log == "a1b");
  f.add_done_callback([&](const future<int>&) { log += "c", loop.stop(); });
  loop.run_forever();
  CHECK(log == "a1bc");
}

TEST_CASE("other kernel threads can hand over calls and complete futures") {
  event_loop loop;
  auto f = loop.create_future<int>();
  int sum = 0;
  std::thread other([&] {
    for (int i = 1; i <= 100; i++) loop.call_soon_threadsafe([&sum, i] { sum += i; });
    f.set_result(7);
    loop.call_soon_threadsafe([&] { loop.stop(); });
  });
  loop.run_forever();
  other.join();
  CHECK(sum == 5050);
  CHECK(f.get() == 7);
  CHECK(loop.run_until_complete(default_executor().submit([] { return 3; })) == 3);
}

TEST_CASE("close kills the remaining tasks, and nothing more can be created") {
  event_loop loop;
  bool unwound = false, begun = false;
  struct mark {
    bool& b;
    ~mark() { b = true; }
  };
  loop.create_task([&] {
    mark m{unwound};
    sleep(1h);
  });
  loop.run_until_complete([] { yield(); });
  loop.call_soon([&] { begun = true; });
  loop.call_soon_threadsafe([&] { begun = true; });
  loop.close();
  loop.close();
  CHECK(loop.is_closed());
  CHECK(unwound);
  CHECK_FALSE(begun);
  CHECK_THROWS_WITH(loop.create_task([] {}), "the event loop is closed");
  CHECK_THROWS_WITH(loop.call_soon_threadsafe([] {}), "the event loop is closed");
  CHECK_THROWS_WITH(loop.run_forever(), "the event loop is closed");
}

TEST_CASE("a future may outlive its loop, but no longer calls back") {
  loop_future<int> f;
  bool called = false;
  {
    event_loop loop;
    f = loop.create_future<int>();
    f.add_done_callback([&](const future<int>&) { called = true; });
  }
  CHECK(written_to(2, [&] {
          f.set_result(1);
          f.add_done_callback([&](const future<int>&) { called = true; });
          yield();
        }) == "");
  CHECK(f.get() == 1);
  CHECK_FALSE(called);
}

TEST_CASE("run closes its loop and kills the remaining tasks") {
  bool unwound = false;
  struct mark {
    bool& b;
    ~mark() { b = true; }
  };
  int r = event_loop::run([&] {
    get_running_loop().create_task([&] {
      mark m{unwound};
      sleep(1h);
    });
    yield();
    return 5;
  });
  CHECK(r == 5);
  CHECK(unwound);
}

TEST_CASE("a loop may run in a task, and killing the task ends the run") {
  event_loop loop;
  event begun;
  auto t = spawn([&] { loop.run_until_complete([&] { begun.set(), sleep(1h); }); });
  begun.wait();
  CHECK(loop.is_running());
  t.kill();
  CHECK_FALSE(loop.is_running());
  CHECK(loop.run_until_complete([] { return 1; }) == 1);
}
