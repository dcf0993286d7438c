// Futures and thread pools with the semantics of concurrent.futures (test_concurrent_futures) and
// gevent.threadpool.
#include <doctest/doctest.h>
#include <tendril/as_completed.hpp>
#include <tendril/task.hpp>
#include <tendril/thread_pool_executor.hpp>

#include <sys/wait.h>

#include <atomic>
#include <iostream>
#include <latch>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "exceptions_between_threads.hpp"

using namespace tendril;
using namespace std::chrono_literals;

namespace {

// A gate that the calls of a pool wait for, so that the test determines when they end.
struct gate {
  std::latch open{1}, entered{1};
  void pass() {
    entered.count_down();
    open.wait();
  }
  // Waits in a fiber, so that others run.
  void await_entered() {
    while (!entered.try_wait()) sleep(1ms);
  }
};

bool timed_out(auto call) {
  try {
    call();
  } catch (const std::system_error& e) {
    return e.code() == std::errc::timed_out;
  }
  return false;
}

int square(int x) { return x * x; }

}  // namespace

TEST_SUITE_BEGIN("future");

TEST_CASE("a future is pending, then running, then done") {
  promise<int> p;
  future<int> f = p.get_future();
  CHECK_FALSE(f.running());
  CHECK_FALSE(f.done());
  CHECK(p.start());
  CHECK(f.running());
  CHECK_FALSE(f.cancel());
  p.set_value(42);
  CHECK_FALSE(f.running());
  CHECK(f.done());
  CHECK_FALSE(f.cancelled());
  CHECK(f.get() == 42);
  CHECK(f.get() == 42);
  CHECK(f.exception() == nullptr);
  CHECK_FALSE(f.cancel());
}

TEST_CASE("a pending future can be cancelled, and its call then never begins") {
  promise<int> p;
  future<int> f = p.get_future();
  CHECK(f.cancel());
  CHECK(f.cancel());
  CHECK(f.cancelled());
  CHECK(f.done());
  CHECK_FALSE(p.start());
  CHECK_THROWS_AS(f.get(), cancelled_error);
  CHECK_THROWS_AS(f.exception(), cancelled_error);
  CHECK_THROWS_AS(p.set_value(1), error);
}

TEST_CASE("get() throws, and exception() returns, an exception of the call") {
  promise<int> p;
  future<int> f = p.get_future();
  p.set_exception(std::make_exception_ptr(std::runtime_error("broken")));
  CHECK_THROWS_WITH(f.get(), "broken");
  CHECK(f.exception() != nullptr);
}

TEST_CASE("a promise that is destroyed without a result leaves an error") {
  future<int> f = promise<int>().get_future();
  CHECK_THROWS_WITH_AS(f.get(), "the promise was destroyed before the call had ended", error);
}

TEST_CASE("get() with a time-out gives up, and the future goes on") {
  promise<int> p;
  future<int> f = p.get_future();
  CHECK(timed_out([&] { f.get(0s); }));
  CHECK(timed_out([&] { f.get(1ms); }));
  CHECK(timed_out([&] { (void)f.exception(1ms); }));
  CHECK_FALSE(f.wait(1ms));
  p.set_value(1);
  CHECK(f.get(0s) == 1);
}

TEST_CASE("fibers that wait for a future wake when another kernel thread sets it") {
  promise<std::string> p;
  future<std::string> f = p.get_future();
  std::vector<task<std::string>> waiting;
  for (int i = 0; i < 10; i++) waiting.push_back(spawn([&] { return f.get(); }));
  yield();
  std::thread sets([&] { p.set_value("value"); });
  for (auto& t : waiting) CHECK(t.get() == "value");
  sets.join();
}

TEST_CASE("a kernel thread without fibers can wait for a future too") {
  promise<int> p;
  future<int> f = p.get_future();
  int got = 0;
  std::thread waits([&] { got = f.get(); });
  p.set_value(3);
  waits.join();
  CHECK(got == 3);
}

TEST_CASE("a kill ends the wait for a future") {
  promise<int> p;
  auto t = spawn([f = p.get_future()] { return f.get(); });
  yield();
  t.kill();
  CHECK_THROWS_AS(t.get(), fiber_exit);
}

TEST_CASE(
    "done callbacks run in the order of adding, with the future, and at once when it is done "
    "already") {
  promise<int> p;
  future<int> f = p.get_future();
  std::vector<int> order;
  f.add_done_callback([&](const future<int>& me) { order.push_back(me.get()); });
  f.add_done_callback([&](const future<int>&) { order.push_back(2); });
  CHECK(order.empty());
  p.set_value(1);
  CHECK(order == std::vector{1, 2});
  f.add_done_callback([&](const future<int>&) { order.push_back(3); });
  CHECK(order == std::vector{1, 2, 3});
}

TEST_CASE(
    "done callbacks run for cancelled and failed futures, and one that throws does not stop the "
    "next") {
  int called = 0;
  promise<int> cancelled, failed;
  cancelled.get_future().add_done_callback(
      [](const future<int>&) { throw std::runtime_error("a test's callback"); });
  cancelled.get_future().add_done_callback([&](const future<int>& f) { called += f.cancelled(); });
  failed.get_future().add_done_callback(
      [&](const future<int>& f) { called += f.exception() != nullptr; });
  cancelled.get_future().cancel();
  failed.set_exception(std::make_exception_ptr(std::runtime_error("x")));
  CHECK(called == 2);
}

TEST_CASE("using an empty future handle is an error") {
  CHECK_THROWS_WITH_AS(future<int>().get(), "no future", error);
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("thread_pool_executor");

TEST_CASE("a call runs on another kernel thread, with its arguments") {
  thread_pool_executor pool(2);
  auto here = std::this_thread::get_id();
  CHECK(pool.submit(square, 5).get() == 25);
  CHECK(pool.submit([&] { return std::this_thread::get_id() != here; }).get());
  CHECK(pool.submit([](std::unique_ptr<int> p) { return *p; }, std::make_unique<int>(3)).get() ==
        3);
  int n = 0;
  pool.submit([](int& r) { r = 7; }, std::ref(n)).get();
  CHECK(n == 7);
}

TEST_CASE("a future throws the exception of its call") {
  thread_pool_executor pool(1);
  CHECK_THROWS_WITH(pool.submit([] { throw std::runtime_error("in the pool"); }).get(),
                    "in the pool");
  CHECK(pool.submit(square, 2).get() == 4);
}

TEST_CASE("while a fiber waits for a call, others run") {
  gate g;
  auto waits = spawn([&] { run_in_executor([&] { g.pass(); }); });
  bool ran = false;
  spawn([&] {
    g.await_entered();
    ran = true;
    g.open.count_down();
  });
  waits.get();
  CHECK(ran);
}

TEST_CASE("threads are made when there is work for them, and no more than the limit") {
  thread_pool_executor pool(3);
  CHECK(pool.workers() == 0);
  pool.submit([] {}).get();
  CHECK(pool.workers() == 1);
  std::latch all_in(3);
  std::atomic<int> together{0}, most{0};
  std::vector<future<void>> calls;
  for (int i = 0; i < 9; i++) {
    calls.push_back(pool.submit([&, i] {
      int now = ++together;
      for (int m = most; now > m && !most.compare_exchange_weak(m, now);) {}
      if (i < 3) all_in.arrive_and_wait();
      together--;
    }));
  }
  for (auto& f : calls) f.get();
  CHECK(most == 3);
  CHECK(pool.workers() == 3);
}

TEST_CASE("a call that has not begun can be cancelled, one that runs cannot") {
  gate g;
  thread_pool_executor pool(1);
  auto running = pool.submit([&] { g.pass(); });
  std::atomic<bool> ran{false};
  auto pending = pool.submit([&] { ran = true; });
  g.await_entered();
  CHECK(running.running());
  CHECK_FALSE(running.cancel());
  CHECK(pending.cancel());
  g.open.count_down();
  running.get();
  CHECK_THROWS_AS(pending.get(), cancelled_error);
  pool.shutdown();
  CHECK_FALSE(ran);
}

TEST_CASE("the threads have the pool's name, or its first 15 characters") {
  auto name_of_thread = [] {
    char name[16] = {};
    pthread_getname_np(pthread_self(), name, sizeof name);
    return std::string(name);
  };
  CHECK(thread_pool_executor(1, "render").submit(name_of_thread).get() == "render");
  CHECK(thread_pool_executor(1, "fifteen letters").submit(name_of_thread).get() ==
        "fifteen letters");
  CHECK(thread_pool_executor(1, "0123456789abcdefgh").submit(name_of_thread).get() ==
        "0123456789abcde");
  CHECK(thread_pool_executor(1).submit(name_of_thread).get() == "tendril-pool");
}

TEST_CASE("a call's callable is destroyed before its result is available") {
  gate g;
  thread_pool_executor pool(1);
  future<void> f;
  bool was_done = true;
  std::shared_ptr<void> held(nullptr, [&](void*) { was_done = f.done(); });
  f = pool.submit([&, held = std::move(held)] { g.pass(); });
  g.open.count_down();
  f.get();
  CHECK_FALSE(was_done);
}

TEST_CASE("map gives results in the order of its range") {
  thread_pool_executor pool(4);
  std::vector<int> in(100), out;
  std::iota(in.begin(), in.end(), 0);
  for (int x : pool.map(square, in)) out.push_back(x);
  REQUIRE(out.size() == 100);
  for (int i = 0; i < 100; i++) CHECK(out[std::size_t(i)] == i * i);
}

TEST_CASE(
    "map gives the results before an exception, throws it in its place, and cancels the rest") {
  gate g;
  thread_pool_executor pool(1);
  std::atomic<int> calls{0};
  auto results = pool.map(
      [&](int x) {
        calls++;
        if (x == 1) {
          g.pass();
          throw std::runtime_error("one");
        }
        if (x == 2) std::this_thread::sleep_for(1ms);
        return x;
      },
      std::vector{0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(results.next() == 0);
  g.open.count_down();
  CHECK_THROWS_WITH(results.next(), "one");
  CHECK(results.next() == std::nullopt);
}

TEST_CASE("map with a time-out gives up") {
  gate g;
  thread_pool_executor pool(1);
  {
    auto results = pool.map(
        [&](int) {
          g.pass();
          return 0;
        },
        std::vector{1}, 1ms);
    CHECK(timed_out([&] { results.next(); }));
  }
  g.open.count_down();
}

TEST_CASE("after shutdown no call is accepted, and the submitted ones are made") {
  thread_pool_executor pool(1);
  std::vector<future<int>> calls;
  for (int i = 0; i < 10; i++) calls.push_back(pool.submit(square, i));
  pool.shutdown();
  CHECK(pool.workers() == 0);
  for (int i = 0; i < 10; i++) CHECK(calls[std::size_t(i)].get() == i * i);
  CHECK_THROWS_WITH_AS(pool.submit(square, 1), "the executor was shut down", error);
  pool.shutdown();
}

TEST_CASE("shutdown can cancel calls that have not begun") {
  gate g;
  thread_pool_executor pool(1);
  auto running = pool.submit([&] { g.pass(); });
  g.await_entered();
  std::vector<future<int>> pending;
  for (int i = 0; i < 5; i++) pending.push_back(pool.submit(square, i));
  pool.shutdown(false, true);
  for (auto& f : pending) CHECK(f.cancelled());
  CHECK_FALSE(running.done());
  g.open.count_down();
  pool.shutdown();
  CHECK(running.done());
}

TEST_CASE("while a fiber waits for a shutdown, others run; a kill ends that wait") {
  gate g;
  thread_pool_executor pool(1);
  pool.submit([&] { g.pass(); });
  auto waits = spawn([&] { pool.shutdown(); });
  g.await_entered();
  CHECK_FALSE(waits.join(1ms));
  waits.kill();
  CHECK(waits.ready());
  g.open.count_down();
}

TEST_CASE("a call cannot wait for its own pool's end") {
  thread_pool_executor pool(1);
  CHECK_THROWS_AS(pool.submit([&] { pool.shutdown(); }).get(), error);
}

TEST_CASE("a pool waits for its calls when it goes out of scope") {
  std::atomic<int> done{0};
  {
    thread_pool_executor pool(2);
    for (int i = 0; i < 20; i++) pool.submit([&] { done++; });
  }
  CHECK(done == 20);
}

TEST_CASE("calls may submit calls, and use fibers of their own") {
  thread_pool_executor pool(2);
  auto outer = pool.submit([&] {
    auto t = spawn([] {
      sleep(1ms);
      return 1;
    });
    return t.get() + pool.submit(square, 3).get();
  });
  CHECK(outer.get() == 10);
}

TEST_CASE("many fibers of several kernel threads share a pool") {
  thread_pool_executor pool(4);
  auto user = [&] {
    std::vector<task<int>> tasks;
    for (int i = 0; i < 50; i++)
      tasks.push_back(spawn([&, i] { return run_in_executor(pool, square, i); }));
    long sum = 0;
    for (auto& t : tasks) sum += t.get();
    return sum;
  };
  long a = 0, b = 0;
  std::thread one([&] { a = user(); }), two([&] { b = user(); });
  one.join();
  two.join();
  CHECK(a == 40425);
  CHECK(b == 40425);
}

TEST_CASE("a killed fiber cancels the call that it waits for, if that has not begun") {
  gate g;
  thread_pool_executor pool(1);
  auto running = pool.submit([&] { g.pass(); });
  std::atomic<bool> ran{false};
  auto t = spawn([&] { run_in_executor(pool, [&] { ran = true; }); });
  g.await_entered();
  t.kill();
  g.open.count_down();
  pool.shutdown();
  CHECK_FALSE(ran);
}

#if !defined(__SANITIZE_THREAD__)
TEST_CASE("the child of a fork cannot use its parent's pool, but has its own default pool") {
  thread_pool_executor pool(1);
  pool.submit([] {}).get();
  run_in_executor([] {});
  std::cout << std::flush;
  pid_t child = fork();
  if (child == 0) {
    bool refused = false;
    try {
      pool.submit([] {});
    } catch (const error&) {
      refused = true;
    }
    _exit(refused && run_in_executor(square, 3) == 9 ? 7 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 7);
}
#endif

TEST_SUITE_END();
TEST_SUITE_BEGIN("as_completed");

TEST_CASE(
    "as_completed returns futures in the order of completion, those that are done already first") {
  std::vector<promise<int>> p(4);
  std::vector<future<int>> f;
  for (auto& x : p) f.push_back(x.get_future());
  p[2].set_value(2);
  f[3].cancel();
  auto arriving = as_completed(f);
  CHECK(*arriving.next() == f[2]);
  CHECK(*arriving.next() == f[3]);
  auto t = spawn([&] {
    p[1].set_value(1);
    p[0].set_value(0);
  });
  std::vector<int> rest;
  for (auto& x : arriving) rest.push_back(x.get());
  CHECK(rest == std::vector{1, 0});
}

TEST_CASE("past its time-out, as_completed reports how many are unfinished") {
  std::vector<promise<int>> p(3);
  std::vector<future<int>> f{p[0].get_future(), p[1].get_future(), p[2].get_future()};
  p[0].set_value(0);
  auto arriving = as_completed(f, 0s);
  CHECK(arriving.next()->get() == 0);
  CHECK(timed_out([&] { arriving.next(); }));
  std::string message;
  try {
    arriving.next();
  } catch (const std::system_error& e) {
    message = e.what();
  }
  CHECK(message.starts_with("2 (of 3) futures unfinished"));
}

TEST_CASE("as_completed of no futures ends at once") {
  CHECK(as_completed(std::vector<future<int>>{}).next() == std::nullopt);
  CHECK(wait_futures(std::vector<future<int>>{}).done.empty());
}

TEST_CASE(
    "wait_futures returns at the first that is done, at the first exception, or when all are") {
  std::vector<promise<int>> p(3);
  std::vector<future<int>> f;
  for (auto& x : p) f.push_back(x.get_future());
  auto r = wait_futures(f, return_when::all_completed, 1ms);
  CHECK(r.not_done.size() == 3);
  p[1].set_value(1);
  r = wait_futures(f, return_when::first_completed);
  CHECK(r.done == std::vector{f[1]});
  CHECK(r.not_done == std::vector{f[0], f[2]});
  p[2].set_exception(std::make_exception_ptr(std::runtime_error("x")));
  r = wait_futures(f, return_when::first_exception);
  CHECK(r.done == std::vector{f[1], f[2]});
  p[0].set_value(0);
  CHECK(wait_futures(f).not_done.empty());
}

TEST_CASE("a cancelled future does not end a wait for the first exception") {
  std::vector<promise<int>> p(3);
  std::vector<future<int>> f;
  for (auto& each : p) f.push_back(each.get_future());
  CHECK(f[0].cancel());
  auto ends = spawn([&] {
    p[1].set_value(1);
    p[2].set_exception(std::make_exception_ptr(std::runtime_error("x")));
  });
  CHECK(wait_futures(f, return_when::first_exception).not_done.empty());
  CHECK(f[2].exception());
}

TEST_CASE("as_completed over calls in a pool returns each once") {
  thread_pool_executor pool(4);
  std::vector<future<int>> f;
  for (int i = 0; i < 100; i++) f.push_back(pool.submit(square, i));
  std::set<int> got;
  for (auto& x : as_completed(f)) got.insert(x.get());
  CHECK(got.size() == 100);
}

TEST_SUITE_END();
