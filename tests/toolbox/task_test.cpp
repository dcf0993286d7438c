// Tasks: the order in which the hub runs them, how they end, and which callbacks are called.
#include <doctest/doctest.h>
#include <tendril/event.hpp>
#include <tendril/posix.hpp>
#include <tendril/queue.hpp>
#include <tendril/semaphore.hpp>
#include <tendril/task.hpp>
#include <tendril/wait.hpp>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cfenv>
#include <functional>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace tendril;
using namespace std::chrono_literals;

namespace {

struct counted {
  static inline std::atomic<int> alive{0};
  counted() { alive++; }
  counted(const counted&) { alive++; }
  ~counted() { alive--; }
};

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const std::exception& e) {
    return e.what();
  }
  return "nothing was thrown";
}

}  // namespace

TEST_SUITE_BEGIN("spawn");

TEST_CASE("a task has its spawner's rounding mode, whatever the last task on its stack set") {
  auto mode = [] { return std::fegetround(); };
  spawn([] { std::fesetround(FE_UPWARD); }).join();
  CHECK(spawn(mode).get() == FE_TONEAREST);
  std::fesetround(FE_TOWARDZERO);
  auto t = spawn(mode);
  std::fesetround(FE_TONEAREST);
  CHECK(t.get() == FE_TOWARDZERO);
  CHECK(std::fegetround() == FE_TONEAREST);
}

TEST_CASE("a task begins when the running fiber first waits, in the order of spawning") {
  std::vector<int> order;
  auto a = spawn([&] { order.push_back(1); });
  auto b = spawn([&] { order.push_back(2); });
  auto c = spawn([&] { order.push_back(3); });
  CHECK(order.empty());
  c.join();
  CHECK(order == std::vector{1, 2, 3});
}

TEST_CASE("a task runs whether or not its handle is kept, and is released after its end") {
  bool ran = false;
  spawn([&, c = counted()] { ran = true; });
  CHECK(counted::alive == 1);
  yield();
  CHECK(ran);
  CHECK(counted::alive == 0);
}

TEST_CASE("arguments are copied or moved into the task") {
  auto p = std::make_unique<int>(40);
  auto t = spawn([](std::unique_ptr<int> q, int x) { return *q + x; }, std::move(p), 2);
  CHECK(t.get() == 42);
  int n = 0;
  spawn([](int& r) { r++; }, std::ref(n)).get();
  CHECK(n == 1);
}

TEST_CASE("a task has a name, an id, and the stack that it asks for") {
  auto t = spawn({.stack_size = 1 << 20, .name = "reader"}, [] {
    volatile char room[900 * 1024];
    room[0] = 1;
    return current_fiber().name() == "reader" && room[0] == 1;
  });
  CHECK(t.name() == "reader");
  CHECK(t.id() == t.as_fiber().id());
  CHECK(t.get());
}

TEST_CASE("a task's callable may be larger than its stack") {
  std::array<char, 100'000> large{};
  large.back() = 'x';
  auto t = tendril::spawn([large] { return large.back(); });
  CHECK(t.get() == 'x');
}

TEST_CASE("ended tasks keep their results while others run, as long as they have handles") {
  std::vector<tendril::task<int>> all;
  for (int round = 0; round < 3; round++) {
    for (int i = 0; i < 200; i++) all.push_back(tendril::spawn([i] { return i; }));
    tendril::joinall(all);
    for (std::size_t i = 0; i < all.size(); i += 2)
      all[i] = tendril::spawn([i] { return int(i % 200); });
    tendril::joinall(all);
  }
  for (std::size_t i = 0; i < all.size(); i++) CHECK(all[i].get() == int(i % 200));
}

TEST_CASE("a task may spawn tasks, which run after those that are already runnable") {
  std::vector<int> order;
  auto a = spawn([&] {
    order.push_back(1);
    spawn([&] { order.push_back(3); });
  });
  auto b = spawn([&] { order.push_back(2); });
  yield();
  yield();
  CHECK(order == std::vector{1, 2, 3});
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("get and join");

TEST_CASE("get waits for the end and returns the result, and may be called again") {
  auto t = spawn([] {
    yield();
    return std::string("result");
  });
  CHECK_FALSE(t.ready());
  CHECK(t.get() == "result");
  CHECK(t.get() == "result");
  CHECK(t.ready());
  CHECK(t.successful());
}

TEST_CASE("get on a temporary moves the result out") {
  auto p = spawn([] { return std::make_unique<int>(5); }).get();
  CHECK(*p == 5);
}

TEST_CASE("get throws what the task threw; join does not") {
  auto t = spawn([] { throw std::runtime_error("broken"); });
  CHECK_NOTHROW(t.join());
  CHECK(t.ready());
  CHECK_FALSE(t.successful());
  CHECK(t.exception());
  CHECK_THROWS_WITH(t.get(), "broken");
  CHECK_THROWS_WITH(t.get(), "broken");
}

TEST_CASE(
    "an exception of a task is kept with its handle, also if it is fetched only long after its "
    "end") {
  auto t = spawn([] { throw std::runtime_error("kept"); });
  while (!t.ready()) yield();
  // its stack and its memory are reused by others
  for (int i = 0; i < 10; i++) spawn([] {}).join();
  REQUIRE(t.exception());
  CHECK_THROWS_WITH(std::rethrow_exception(t.exception()), "kept");
}

TEST_CASE("an exception of a task without handles has no effect") {
  bool went_on = false;
  spawn([] { throw 1; });
  spawn([&] { went_on = true; }).join();
  CHECK(went_on);
}

TEST_CASE("join with a time-out returns whether the task has ended") {
  auto slow = spawn([] { sleep(1h); });
  CHECK_FALSE(slow.join(1ms));
  CHECK_FALSE(slow.join(0ms));
  CHECK_FALSE(slow.ready());
  slow.kill();
  CHECK(slow.join(0ms));
  auto quick = spawn([] {});
  CHECK(quick.join(1h));
}

TEST_CASE("many fibers may wait for one task, and wake in the order of their arrival") {
  std::vector<int> order;
  auto t = spawn([] {
    yield();
    yield();
  });
  std::vector<task<void>> waiters;
  for (int i = 0; i < 5; i++) {
    waiters.push_back(spawn([&, i] {
      t.join();
      order.push_back(i);
    }));
  }
  joinall(waiters);
  CHECK(order == std::vector{0, 1, 2, 3, 4});
}

TEST_CASE("a waiter that gives up leaves the others waiting") {
  auto t = spawn([] { sleep(1h); });
  auto gives_up = spawn([&] { return t.join(1ms); });
  auto is_killed = spawn([&] { t.join(); });
  auto waits = spawn([&] { t.join(); });
  yield();
  is_killed.kill();
  CHECK_FALSE(gives_up.get());
  CHECK_FALSE(waits.ready());
  t.kill();
  waits.get();
}

TEST_CASE("thousands of fibers wait for one task and give up in any order, each in constant time") {
  auto t = spawn([] { sleep(1h); });
  std::vector<task<void>> waiting;
  for (int i = 0; i < 20'000; i++) waiting.push_back(spawn([&] { t.join(); }));
  yield();
  for (std::size_t i = 0; i < waiting.size(); i += 3)
    waiting[waiting.size() - 1 - i].request_kill();
  yield();
  CHECK(std::ranges::count_if(waiting, [](auto& w) { return w.ready(); }) == 6667);
  t.kill();
  joinall(waiting);
}

TEST_CASE("joinall waits for all, also with a time-out") {
  std::vector<task<int>> tasks;
  for (int i = 0; i < 10; i++) {
    tasks.push_back(spawn([i] {
      for (int k = 0; k < i; k++) yield();
      if (i == 5) throw std::runtime_error("five");
      return i;
    }));
  }
  joinall(tasks);
  for (auto& t : tasks) CHECK(t.ready());
  tasks.push_back(spawn([] { return sleep(1h), 0; }));
  CHECK_FALSE(joinall(tasks, 1ms));
  tasks.back().kill();
  CHECK(joinall(tasks, 1h));
}

TEST_CASE("an empty handle and the task itself cannot be waited for") {
  task<void> none;
  CHECK_FALSE(none.valid());
  CHECK_FALSE(none.ready());
  CHECK_THROWS_AS(none.join(), fiber_error);
  CHECK_THROWS_AS(none.kill(), fiber_error);
  task<void> self;
  self = spawn([&] { CHECK_THROWS_AS(self.join(), fiber_error); });
  self.get();
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("kill");

TEST_CASE("kill ends a task where it waits, unwinds it, and waits for that") {
  auto t = spawn([c = counted()] {
    counted on_stack;
    sleep(1h);
  });
  yield();
  CHECK(counted::alive == 2);
  t.kill();
  CHECK(t.ready());
  CHECK(counted::alive == 0);
  CHECK(t.successful());
  CHECK_FALSE(t.exception());
  CHECK_THROWS_AS(t.get(), fiber_exit);
}

TEST_CASE("a task that is killed before it begins never begins") {
  bool ran = false;
  auto t = spawn([&, c = counted()] { ran = true; });
  t.kill();
  CHECK(t.ready());
  CHECK_FALSE(ran);
  CHECK(counted::alive == 0);
  CHECK_THROWS_AS(t.get(), fiber_exit);
}

TEST_CASE("kill of a task that has ended changes nothing") {
  auto t = spawn([] { return 1; });
  t.join();
  t.kill();
  CHECK(t.get() == 1);
}

TEST_CASE("a task may catch the kill and end with a result; kill waits for that") {
  auto t = spawn([] {
    try {
      sleep(1h);
    } catch (const fiber_exit&) {
      yield();
      return 7;
    }
    return 0;
  });
  yield();
  t.kill();
  CHECK(t.get() == 7);
}

TEST_CASE("a task may catch a kill and go on waiting; kill with a time-out reports that") {
  bool swallowed = false;
  auto t = spawn([&] {
    try {
      sleep(1h);
    } catch (const fiber_exit&) {
      swallowed = true;
    }
    sleep(1h);
  });
  yield();
  CHECK_FALSE(t.kill(1ms));
  CHECK(swallowed);
  CHECK_FALSE(t.ready());
  CHECK(t.kill(1h));
}

TEST_CASE("kill with another exception makes the task fail with it") {
  auto t = spawn([] { sleep(1h); });
  yield();
  t.kill(std::runtime_error("stop"));
  CHECK_FALSE(t.successful());
  CHECK_THROWS_WITH(t.get(), "stop");
}

TEST_CASE("request_kill does not wait: the task ends when it next runs") {
  auto t = spawn([] { sleep(1h); });
  yield();
  t.request_kill();
  CHECK_FALSE(t.ready());
  yield();
  CHECK(t.ready());
}

TEST_CASE("a task may kill itself") {
  task<void> t;
  t = spawn([&] {
    t.kill();
    FAIL("not reached");
  });
  CHECK_THROWS_AS(t.get(), fiber_exit);
}

TEST_CASE("killing a task that waits for another does not affect the other") {
  auto inner = spawn([] { yield(), yield(), yield(); });
  auto outer = spawn([&] { inner.join(); });
  yield();
  outer.kill();
  CHECK(outer.ready());
  inner.get();
}

TEST_CASE("two tasks may kill each other") {
  task<void> a, b;
  a = spawn([&] { b.kill(); });
  b = spawn([&] { a.kill(); });
  joinall(std::vector{a, b});
  CHECK(a.ready());
  CHECK(b.ready());
}

TEST_CASE("a kill that comes while the task cleans up reaches its next wait") {
  std::vector<std::string> log;
  auto t = spawn([&] {
    for (const char* name : {"first", "second"}) {
      try {
        sleep(1h);
      } catch (const fiber_exit&) {
        log.push_back(name);
      }
    }
  });
  yield();
  t.kill(0ms);
  t.kill();
  CHECK(log == std::vector<std::string>{"first", "second"});
}

TEST_CASE("a task that is parked inside an explicit fiber is killed at its own next wait") {
  std::string log;
  auto t = spawn([&] {
    fiber<> inner([&] {
      yield();
      log += "inner ";
    });
    inner.switch_to();
    log += "outer ";
    sleep(1h);
    FAIL("not reached");
  });
  yield();
  t.kill();
  CHECK(log == "inner outer ");
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("sleep and yield");

TEST_CASE("sleepers wake in the order of their deadlines, not of their calls") {
  std::vector<int> order;
  auto start = clock::now();
  std::vector<task<void>> tasks;
  for (int ms : {30, 10, 20, 0, 40}) {
    tasks.push_back(spawn([&, ms] {
      sleep_until(start + std::chrono::milliseconds(ms));
      order.push_back(ms);
    }));
  }
  joinall(tasks);
  CHECK(order == std::vector{0, 10, 20, 30, 40});
}

TEST_CASE("sleep never returns early") {
  for (auto d : {1ns, 1000ns, 1'000'000ns, 20'000'001ns, 60'000'000ns}) {
    auto before = clock::now();
    sleep(d);
    CHECK(clock::now() - before >= d);
    before = clock::now();
    sleep(d, precise);
    CHECK(clock::now() - before >= d);
    before = clock::now();
    sleep_until(before + d, precise);
    CHECK(clock::now() - before >= d);
  }
}

TEST_CASE(
    "sleep of zero or less lets the others run once, and a deadline that has passed does not "
    "wait") {
  int n = 0;
  auto t = spawn([&] { n++; });
  sleep(0s);
  CHECK(n == 1);
  sleep(-1s);
  sleep_until(clock::now() - 1h);
  t.join();
}

TEST_CASE("yield lets each other runnable fiber run exactly once") {
  std::vector<int> turns(10);
  std::vector<task<void>> tasks;
  for (std::size_t i = 0; i < turns.size(); i++) {
    tasks.push_back(spawn([&, i] {
      for (int k = 0; k < 100; k++) {
        turns[i]++;
        yield();
      }
    }));
  }
  for (int k = 1; k <= 100; k++) {
    yield();
    for (int n : turns) CHECK(n == k);
  }
  joinall(tasks);
}

TEST_CASE("a task that only yields does not keep sleepers from waking") {
  bool woke = false;
  auto sleeper = spawn([&] {
    sleep(1ms);
    woke = true;
  });
  while (!woke) yield();
  sleeper.join();
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("loop_exit");

TEST_CASE("a wait that can never end throws loop_exit, which lists the waiting fibers") {
  task<void> a, b;
  a = spawn({.name = "alice"}, [&] { b.join(); });
  b = spawn({.name = "bob"}, [&] { a.join(); });
  std::string report = message_of([&] { a.join(); });
  auto line = [&](const std::string& s) { return report.find(s + "\n") != std::string::npos; };
  auto id = [](auto& t) { return std::to_string(t.id()); };
  INFO(report);
  CHECK(line("fiber " + std::to_string(current_fiber().id()) + " 'main' waits for task " + id(a) +
             " 'alice'"));
  CHECK(line("fiber " + id(a) + " 'alice' waits for task " + id(b) + " 'bob'"));
  CHECK(line("fiber " + id(b) + " 'bob' waits for task " + id(a) + " 'alice'"));
  // The program can go on after that.
  a.kill();
  b.join();
  CHECK(b.successful());
}

TEST_CASE("the list of waiting fibers tells what each waits for") {
  event e;
  semaphore s(0);
  queue<int> q;
  std::vector<waitable> both{e, s};
  std::vector<task<void>> tasks = {
      spawn({.name = "for-event"}, [&] { e.wait(); }),
      spawn({.name = "for-lock"}, [&] { s.acquire(); }),
      spawn({.name = "for-queue"}, [&] { (void)q.get(); }),
      spawn({.name = "for-several"}, [&] { (void)wait(both, forever, 1); }),
      spawn({.name = "in-a-switch"},
            [&] {
              fiber<> f([&] { e.wait(); });
              f.switch_to();
            }),
  };
  yield();
  std::string report = message_of([&] { tasks[0].join(); });
  INFO(report);
  auto line = [&](const std::string& end) { return report.find(end + "\n") != std::string::npos; };
  CHECK(line("'for-event' waits for an event"));
  CHECK(line("'for-lock' waits for a lock"));
  CHECK(line("'for-queue' waits for a queue"));
  CHECK(line("'for-several' waits"));
  CHECK(line("'in-a-switch' has switched to another fiber"));
  e.set();
  s.release();
  q.put(1);
  joinall(tasks);
}

TEST_CASE("loop_exit is thrown in main if it waits, else in a fiber that does") {
  task<void> a, b;
  a = spawn([&] { b.join(); });
  b = spawn([&] { a.join(); });
  // Main is not parked, but has switched to a fiber that is.
  bool told = false;
  fiber<> f([&] {
    try {
      a.join();
    } catch (const loop_exit&) {
      told = true;
    }
  });
  f.switch_to();
  CHECK(told);
  a.kill();
  b.join();
}

TEST_CASE("a wait is no deadlock while a sleeper or a time-out exists") {
  task<void> a, b;
  a = spawn([&] { b.join(); });
  b = spawn([&] { a.join(); });
  CHECK_FALSE(a.join(1ms));
  a.kill();
  b.join();
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("kernel threads and process");

TEST_CASE("each kernel thread runs its own tasks") {
  std::vector<std::thread> threads;
  std::vector<int> sums(4);
  for (std::size_t t = 0; t < sums.size(); t++) {
    threads.emplace_back([&, t] {
      std::vector<task<int>> tasks;
      for (int i = 0; i < 100; i++) {
        tasks.push_back(spawn([i] {
          for (int k = 0; k < 10; k++) yield();
          return i;
        }));
      }
      for (auto& x : tasks) sums[t] += x.get();
    });
  }
  for (auto& t : threads) t.join();
  for (int s : sums) CHECK(s == 4950);
}

TEST_CASE("a kernel thread's end unwinds its unfinished tasks, begun or not") {
  std::vector<task<void>> kept;
  bool began = false;
  std::thread([&] {
    kept.push_back(spawn([c = counted()] {
      counted on_stack;
      sleep(1h);
    }));
    yield();
    kept.push_back(spawn([&, c = counted()] { began = true; }));
    spawn([c = counted()] { sleep(1h); });
    CHECK(counted::alive == 4);
  }).join();
  CHECK(counted::alive == 0);
  CHECK_FALSE(began);
  for (auto& t : kept) CHECK(t.ready());
}

TEST_CASE(
    "a task that waits while it is unwound at the thread's end may yield, but not delay the end") {
  std::string log;
  std::thread([&] {
    spawn([&] {
      try {
        sleep(1h);
      } catch (const fiber_exit&) {
        yield();
        log += "cleaned up";
        sleep(1h);
        log += " and came back";
      }
    });
    yield();
  }).join();
  CHECK(log == "cleaned up");
}

TEST_CASE("tasks and fibers that wait inside an explicit switch are unwound at the thread's end") {
  std::thread([] {
    spawn([c = counted()] {
      counted outer;
      fiber<> f([] {
        counted inner;
        sleep(1h);
      });
      f.switch_to();
    });
    // A task that remains suspended in an explicit switch.
    static fiber<> back;
    spawn([c = counted()] {
      counted on_stack;
      fiber<> f([] {
        counted in_f;
        back.switch_to();
      });
      back = fiber<>([] { sleep(1h); });
      f.switch_to();
    });
    yield();
    CHECK(counted::alive > 0);
    back = {};
  }).join();
  CHECK(counted::alive == 0);
}

TEST_CASE(
    "a descriptor number that was closed unseen, and opened again, is waited for like any other") {
  for (int round = 0; round < 3; round++) {
    int p[2];
    REQUIRE(pipe(p) == 0);
    auto writer = spawn([&] {
      sleep(1ms);
      return write(p[1], "x", 1);
    });
    auto reader = spawn([&] {
      char c;
      return posix::read(p[0], &c, 1);
    });
    CHECK(reader.join(1h));
    CHECK(reader.get() == 1);
    writer.join();
    close(p[0]);  // the C library's close, unseen by the runtime
    close(p[1]);
  }
}

TEST_CASE("a process that has no descriptors left can still sleep") {
  std::cout << std::flush;
  pid_t child = fork();
  if (child == 0) {
    rlimit none{0, 0};
    setrlimit(RLIMIT_NOFILE, &none);
    spawn([] { sleep(1ms); }).join();
    _exit(dup(1) < 0 ? 7 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 7);
}

TEST_CASE("the process's exit abandons its tasks and runs none of them") {
  std::cout << std::flush;
  pid_t child = fork();
  if (child == 0) {
    spawn([] { _exit(1); });
    exit(0);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_SUITE_END();
