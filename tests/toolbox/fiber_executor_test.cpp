// Calls in fibers on several kernel threads: where they run, in which order, and how they end.
#include <doctest/doctest.h>
#include <tendril/as_completed.hpp>
#include <tendril/event.hpp>
#include <tendril/fiber_executor.hpp>
#include <tendril/latch.hpp>
#include <tendril/semaphore.hpp>
#include <tendril/task.hpp>

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <latch>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "exceptions_between_threads.hpp"

using namespace tendril;
using namespace std::chrono_literals;

namespace {

int square(int x) { return x * x; }

// A latch whose waiters block their kernel thread, with all its fibers, as one that computes.
class blocking_latch {
 public:
  explicit blocking_latch(std::uint32_t n) : left_(n), n_(n) {}
  void count_down() {
    std::uint32_t n = n_;  // a waiter may destroy the latch
    if (--left_ > 0) return;
    for (std::uint32_t i = 0; i <= n; i++) core::futex_wake_one(&left_);
  }
  void wait() {
    while (std::uint32_t n = left_) core::futex_sleep(&left_, n);
  }
  void arrive_and_wait() {
    count_down();
    wait();
  }

 private:
  std::atomic<std::uint32_t> left_;
  const std::uint32_t n_;
};

// Occupies the kernel thread of a call until end().
class occupation {
 public:
  void operator()() {
    entered_.count_down();
    open_.wait();
  }
  void await_entered() { entered_.wait(); }
  void end() { open_.count_down(); }

 private:
  blocking_latch entered_{1}, open_{1};
};

// The sum of 0 ... n-1, each a call, in a tree whose nodes have ten children.
long sum_of_tree(fiber_executor& e, long first, long n) {
  if (n == 1) return first;
  std::vector<future<long>> children;
  for (long i = 0; i < 10; i++)
    children.push_back(e.submit(sum_of_tree, std::ref(e), first + i * (n / 10), n / 10));
  long sum = 0;
  for (auto& c : children) sum += c.get();
  return sum;
}

// Runs f() in a forked child. Returns its exit status.
int in_child(auto f) {
  pid_t child = fork();
  if (child == 0) _exit(f());
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

TEST_SUITE_BEGIN("fiber_executor");

TEST_CASE("a call runs in a fiber on another kernel thread, with its arguments") {
  fiber_executor e(2);
  CHECK(e.workers() == 2);
  auto here = gettid();
  CHECK(e.submit(square, 5).get() == 25);
  CHECK(e.submit([&] { return gettid() != here; }).get());
  CHECK(e.submit([](std::unique_ptr<int> p) { return *p; }, std::make_unique<int>(3)).get() == 3);
  int n = 0;
  e.submit([](int& r) { r = 7; }, std::ref(n)).get();
  CHECK(n == 7);
}

TEST_CASE("each worker is a kernel thread, and calls that compute run on all at once") {
  fiber_executor e(3);
  blocking_latch all_in(3);
  std::vector<future<pid_t>> calls;
  for (int i = 0; i < 3; i++) {
    calls.push_back(e.submit([&] {
      all_in.arrive_and_wait();
      return gettid();
    }));
  }
  std::set<pid_t> threads;
  for (auto& c : calls) threads.insert(c.get());
  CHECK(threads.size() == 3);
}

TEST_CASE("there are as many workers as processors that the thread may use") {
  cpu_set_t mine, one;
  REQUIRE(sched_getaffinity(0, sizeof mine, &mine) == 0);
  CHECK(fiber_executor().workers() == unsigned(CPU_COUNT(&mine)));
  CPU_ZERO(&one);
  int first = 0;
  while (!CPU_ISSET(first, &mine)) first++;
  CPU_SET(first, &one);
  REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
  CHECK(fiber_executor().workers() == 1);
  sched_setaffinity(0, sizeof mine, &mine);
}

TEST_CASE("a call that waits lets the other calls of its worker run") {
  fiber_executor e(1);
  event done;
  auto waits = e.submit([&] {
    done.wait();
    return 1;
  });
  e.submit([&] { done.set(); });
  CHECK(waits.get() == 1);
}

TEST_CASE("a call that waits for the future of another call waits as a fiber") {
  fiber_executor e(1);
  auto outer = e.submit([&] {
    auto inner = e.submit([&] { return e.submit(square, 3).get() + 1; });
    return inner.get() + 1;
  });
  CHECK(outer.get() == 11);
}

TEST_CASE("a call stays on its kernel thread across its waits") {
  fiber_executor e(3);
  std::vector<future<bool>> calls;
  for (int i = 0; i < 30; i++) {
    calls.push_back(e.submit([] {
      auto here = std::this_thread::get_id();
      bool same = true;
      for (int k = 0; k < 5; k++) {
        sleep(k % 2 ? 100us : 0us);
        same &= std::this_thread::get_id() == here;
      }
      return same;
    }));
  }
  for (auto& c : calls) CHECK(c.get());
}

TEST_CASE("a future throws the exception of its call") {
  fiber_executor e(1);
  CHECK_THROWS_WITH(e.submit([] { throw std::runtime_error("in a fiber"); }).get(), "in a fiber");
  CHECK_THROWS_AS(e.submit([] { throw fiber_exit(); }).get(), fiber_exit);
  CHECK(e.submit(square, 2).get() == 4);
}

TEST_CASE("the exception of a call that nobody asks for is reported") {
  static std::atomic<int> reported;
  reported = 0;
  auto before = set_lost_exception_handler(
      [](const lost_exception& lost) noexcept { reported += std::string(lost.source) == "call"; });
  {
    fiber_executor e(1);
    e.submit([] { throw std::runtime_error("lost"); });
  }
  set_lost_exception_handler(before);
  CHECK(reported == 1);
}

TEST_CASE("a call's callable is destroyed before its result is available") {
  fiber_executor e(1);
  auto held = std::make_shared<int>(1);
  std::weak_ptr<int> seen = held;
  e.submit([held = std::move(held)] { return *held; }).get();
  CHECK(seen.expired());
}

TEST_CASE("calls from elsewhere begin in the order of submission") {
  occupation busy;
  fiber_executor e(1);
  e.submit(std::ref(busy));
  busy.await_entered();
  std::vector<int> order, expected(100);
  std::vector<future<void>> calls;
  for (int i = 0; i < 100; i++) calls.push_back(e.submit([&, i] { order.push_back(i); }));
  busy.end();
  for (auto& c : calls) c.get();
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(order == expected);
}

TEST_CASE("of the calls of a call the newest begins first, and each 16th time the oldest") {
  fiber_executor e(1);
  std::vector<int> order;
  e.submit([&] {
     std::vector<future<void>> calls;
     for (int i = 0; i < 100; i++) calls.push_back(e.submit([&, i] { order.push_back(i); }));
     for (auto& c : calls) c.get();
   }).get();
  REQUIRE(order.size() == 100);
  int oldest = 0, newest = 99, turns_of_newest = 0;
  for (int i : order) {
    if (i == newest && turns_of_newest < 15) {
      newest--, turns_of_newest++;
    } else {
      CHECK(i == oldest++);
      turns_of_newest = 0;
    }
  }
  CHECK(oldest >= 6);
}

TEST_CASE("a call from elsewhere begins though the worker's own calls always submit another") {
  fiber_executor e(1);
  std::atomic<bool> over{false};
  std::function<void()> again = [&] {
    if (!over) e.submit(again);
  };
  e.submit(again).get();
  e.submit([&] { over = true; }).get();
  CHECK(over);
}

TEST_CASE("fibers of a worker that only yield do not keep its calls from beginning") {
  fiber_executor e(1);
  std::atomic<bool> over{false};
  auto yields = e.submit([&] {
    while (!over) yield();
  });
  e.submit([&] { e.submit([&] { over = true; }).get(); }).get();
  yields.get();
  CHECK(over);
}

TEST_CASE("a call goes to a worker that sleeps while another computes") {
  occupation busy;
  fiber_executor e(2);
  e.submit(std::ref(busy));
  busy.await_entered();
  for (int i = 0; i < 50; i++) CHECK(e.submit(square, i).get() == i * i);
  busy.end();
}

TEST_CASE("what a call submits before it computes begins on a worker that has nothing to do") {
  fiber_executor e(2);
  for (int round = 0; round < 50; round++) {
    e.submit([&] {
       blocking_latch all(10);
       for (int i = 0; i < 10; i++) e.submit([&] { all.count_down(); });
       all.wait();
     }).get();
  }
}

TEST_CASE("calls that wait for a worker that computes begin on the one that first has no more") {
  for (int round = 0; round < 20; round++) {
    occupation first, second;
    fiber_executor e(2);
    auto a = e.submit(std::ref(first));
    auto b = e.submit(std::ref(second));
    first.await_entered(), second.await_entered();
    std::vector<future<void>> calls;
    for (int i = 0; i < 10; i++) calls.push_back(e.submit([] {}));
    second.end();
    for (auto& c : calls) c.get();
    CHECK_FALSE(a.done());
    first.end();
  }
}

TEST_CASE("a call of a worker that computes begins on another one that has more calls, too") {
  event over;
  occupation busy;
  fiber_executor e(2);
  auto computes = e.submit(std::ref(busy));
  busy.await_entered();
  latch begun(5);
  for (int i = 0; i < 5; i++) {
    e.submit([&] {
      begun.count_down();
      over.wait();
    });
  }
  begun.wait();
  for (int i = 0; i < 5; i++) CHECK(e.submit(square, i).get() == i * i);
  CHECK_FALSE(computes.done());
  over.set();
  busy.end();
}

TEST_CASE("calls that only wait come to be spread over all workers") {
  event over;
  fiber_executor e(3);
  std::mutex m;
  std::multiset<pid_t> on;
  auto spread = [&] {
    std::lock_guard lock(m);
    std::set<pid_t> workers(on.begin(), on.end());
    return workers.size() == 3 &&
           std::all_of(workers.begin(), workers.end(), [&](pid_t w) { return on.count(w) >= 5; });
  };
  for (int i = 0; i < 10'000 && !spread(); i++) {
    latch begun(1);
    e.submit([&] {
      {
        std::lock_guard lock(m);
        on.insert(gettid());
      }
      begun.count_down();
      over.wait();
    });
    begun.wait();
  }
  CHECK(spread());
  over.set();
}

TEST_CASE("a call that has not begun can be cancelled, one that runs cannot") {
  occupation busy;
  fiber_executor e(1);
  auto running = e.submit(std::ref(busy));
  std::atomic<bool> ran{false};
  auto pending = e.submit([&] { ran = true; });
  busy.await_entered();
  CHECK(running.running());
  CHECK_FALSE(running.cancel());
  CHECK(pending.cancel());
  busy.end();
  running.get();
  CHECK_THROWS_AS(pending.get(), cancelled_error);
  e.shutdown();
  CHECK_FALSE(ran);
}

TEST_CASE("shutdown waits for all calls, those that have not begun included") {
  fiber_executor e(2);
  std::atomic<int> ended{0};
  for (int i = 0; i < 100; i++) {
    e.submit([&, i] {
      if (i % 10 == 0) sleep(1ms);
      ended++;
    });
  }
  e.shutdown();
  CHECK(ended == 100);
  CHECK_THROWS_WITH_AS(e.submit(square, 1), "the executor was shut down", error);
  e.shutdown();
}

TEST_CASE("shutdown can cancel the calls that have not begun") {
  occupation busy;
  fiber_executor e(1);
  auto running = e.submit([&] {
    busy();
    return 1;
  });
  busy.await_entered();
  std::vector<future<int>> pending;
  for (int i = 0; i < 5; i++) pending.push_back(e.submit(square, i));
  e.shutdown(false, true);
  for (auto& p : pending) CHECK(p.cancelled());
  busy.end();
  CHECK(running.get() == 1);
}

TEST_CASE("shutdown can cancel what a call has submitted") {
  fiber_executor e(1);
  blocking_latch submitted(1), closed(1);
  std::vector<future<int>> pending;
  auto running = e.submit([&] {
    for (int i = 0; i < 5; i++) pending.push_back(e.submit(square, i));
    submitted.count_down();
    closed.wait();
    CHECK_THROWS_WITH_AS(e.submit(square, 1), "the executor was shut down", error);
  });
  submitted.wait();
  e.shutdown(false, true);
  closed.count_down();
  running.get();
  for (auto& p : pending) CHECK(p.cancelled());
}

TEST_CASE("the destructor waits for all calls") {
  std::atomic<int> ended{0};
  {
    fiber_executor e(2);
    for (int i = 0; i < 20; i++) {
      e.submit([&] {
        sleep(2ms);
        ended++;
      });
    }
  }
  CHECK(ended == 20);
}

TEST_CASE("a kill ends the wait for the calls, not that of the destructor") {
  event over;
  std::atomic<bool> ended{false};
  auto e = std::make_unique<fiber_executor>(1);
  e->submit([&] {
    over.wait();
    ended = true;
  });
  auto waits = spawn([&] { e->shutdown(); });
  yield();
  waits.kill();
  CHECK_THROWS_AS(waits.get(), fiber_exit);
  auto destroys = spawn([&] {
    e.reset();
    CHECK(ended);
  });
  yield();
  destroys.request_kill();
  yield();
  CHECK_FALSE(destroys.ready());
  over.set();
  destroys.join();
  CHECK(ended);
}

TEST_CASE("a call cannot wait for the end of its executor, but may shut it down and destroy it") {
  auto e = std::make_unique<fiber_executor>(2);
  auto refused = e->submit([&] { e->shutdown(); });
  CHECK_THROWS_WITH_AS(refused.get(),
                       "a call of an executor cannot wait for the end of that executor", error);
  auto other = e->submit([&] { e->shutdown(false); });
  other.get();
  CHECK_THROWS_AS(e->submit(square, 1), error);

  auto mine = std::make_shared<std::unique_ptr<fiber_executor>>(new fiber_executor(2));
  auto& own = **mine;
  auto destroys = own.submit([mine] {
    mine->reset();
    sleep(1ms);
    return 5;
  });
  CHECK(destroys.get() == 5);
}

TEST_CASE("tasks that a call has spawned are its worker's, and are killed at the end") {
  std::atomic<int> ran{0}, killed{0};
  {
    fiber_executor e(1);
    e.submit([&] {
       spawn([&] { ran++; }).join();
       spawn([&] {
         try {
           sleep(1h);
         } catch (const fiber_exit&) {
           killed++;
           throw;
         }
       });
       yield();
     }).get();
  }
  CHECK(ran == 1);
  CHECK(killed == 1);
}

TEST_CASE(
    "workers have a name, block all signals, and give their fibers the stack that was asked for") {
  fiber_executor e(1, {.name = "a name of many characters", .stack_size = 1 << 20});
  e.submit([] {
     char name[32];
     pthread_getname_np(pthread_self(), name, sizeof name);
     CHECK(std::string(name) == "a name of many ");
     sigset_t mask;
     pthread_sigmask(SIG_SETMASK, nullptr, &mask);
     CHECK(sigismember(&mask, SIGTERM));
     CHECK(sigismember(&mask, SIGCHLD));
     volatile char large[600'000];
     for (std::size_t i = 0; i < sizeof large; i += 1000) large[sizeof large - 1 - i] = 1;
     CHECK(large[sizeof large - 1] == 1);
   }).get();
}

TEST_CASE("map, run_in_executor and as_completed work with it") {
  fiber_executor e(2);
  std::vector<int> squares;
  for (int x : e.map(square, std::vector{1, 2, 3})) squares.push_back(x);
  CHECK(squares == std::vector{1, 4, 9});
  CHECK(run_in_executor(e, square, 4) == 16);
  std::vector<future<int>> calls{e.submit(square, 1), e.submit(square, 2)};
  int sum = 0;
  for (auto& f : as_completed(calls)) sum += f.get();
  CHECK(sum == 5);
}

TEST_CASE("in a forked child the executor accepts no calls, and its end does not wait") {
  occupation busy;
  auto e = std::make_unique<fiber_executor>(2);
  e->submit(std::ref(busy));
  busy.await_entered();
  auto child = [&] {
    std::string refused;
    try {
      e->submit(square, 1);
    } catch (const error& thrown) {
      refused = thrown.what();
    }
    e->shutdown();
    e.reset();
    return refused == "the executor belongs to the parent process of a fork" ? 0 : 1;
  };
  CHECK(in_child(child) == 0);
  CHECK(e->submit([&] { return in_child(child); }).get() == 0);
  busy.end();
  CHECK(e->submit(square, 3).get() == 9);
}

#if !defined(__SANITIZE_THREAD__)  // it allows no threads in a child of a process with threads
TEST_CASE("a child of a fork can have an executor of its own") {
  fiber_executor parents(1);
  parents.submit([] {}).get();
  CHECK(in_child([] { return fiber_executor(2).submit(square, 3).get(); }) == 9);
}
#endif

TEST_CASE("a tree of calls is summed by any number of workers") {
  for (unsigned n : {1u, 2u, 4u}) {
    fiber_executor e(n);
    CHECK(e.submit(sum_of_tree, std::ref(e), 0, 10'000).get() == 49'995'000);
  }
}

TEST_CASE("more than 64 workers share their calls, too") {
  std::vector<occupation> busy(69);
  fiber_executor e(70);
  for (auto& b : busy) e.submit(std::ref(b));
  for (auto& b : busy) b.await_entered();
  CHECK(e.submit(sum_of_tree, std::ref(e), 0, 100).get() == 4950);
  for (auto& b : busy) b.end();
}

TEST_CASE("no call is lost when many threads submit while others shut the executor down") {
  for (int round = 0; round < 50; round++) {
    fiber_executor e(2);
    std::atomic<int> accepted{0}, made{0};
    std::vector<std::thread> threads;
    std::latch begin(4);
    for (int t = 0; t < 3; t++) {
      threads.emplace_back([&] {
        begin.arrive_and_wait();
        try {
          for (int i = 0; i < 200; i++) {
            e.submit([&] {
              made++;
              try {
                e.submit([&] { made++; });
                accepted++;
              } catch (const error&) {}
            });
            accepted++;
          }
        } catch (const error&) {}
      });
    }
    begin.arrive_and_wait();
    if (round % 2) std::this_thread::yield();
    e.shutdown();
    for (auto& t : threads) t.join();
    CHECK(made == accepted);
  }
}

TEST_CASE("calls that submit, wait, sleep, yield and throw at random all end (seeded)") {
  for (unsigned seed = 1; seed <= 6; seed++) {
    fiber_executor e(1 + seed % 3);
    std::atomic<int> begun{0}, ended{0};
    std::function<int(unsigned, int)> node = [&](unsigned s, int depth) {
      std::minstd_rand random(s);
      begun++;
      std::vector<future<int>> children;
      int n = depth == 0 ? 0 : int(random() % 5);
      for (int i = 0; i < n; i++) children.push_back(e.submit(node, unsigned(random()), depth - 1));
      switch (random() % 5) {
        case 0:
          sleep(std::chrono::microseconds(random() % 200));
          break;
        case 1:
          yield();
          break;
        case 2:
          spawn([] { yield(); }).join();
          break;
        default:
          break;
      }
      bool fails = random() % 8 == 0;
      int failures = fails;
      for (auto& c : children) {
        try {
          failures += c.get();
        } catch (const std::runtime_error&) {
          failures++;
        }
      }
      ended++;
      if (fails) throw std::runtime_error("at random");
      return failures;
    };
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 2; t++) {
      threads.emplace_back([&, t] {
        for (unsigned i = 0; i < 10; i++) {
          auto f = e.submit(node, seed * 1000 + t * 100 + i, 5);
          (void)f.exception();
        }
      });
    }
    for (auto& t : threads) t.join();
    e.shutdown();
    CHECK(begun == ended);
    CHECK(begun >= 20);
  }
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("work_deque");

TEST_CASE("the owner gets the newest, others the oldest") {
  int x[3];
  detail::work_deque<int> d;
  CHECK(d.pop() == nullptr);
  CHECK(d.take_oldest() == nullptr);
  for (int& i : x) d.push(&i);
  CHECK(d.size() == 3);
  CHECK(d.pop() == &x[2]);
  CHECK(d.take_oldest() == &x[0]);
  CHECK(d.pop() == &x[1]);
  CHECK(d.pop() == nullptr);
  CHECK(d.empty());
}

TEST_CASE(
    "each is taken once, by its owner or by another, also while there come to be more of them") {
  constexpr int n = 20'000;
  std::vector<std::atomic<int>> taken(n);
  std::vector<int> index(n);
  std::iota(index.begin(), index.end(), 0);
  detail::work_deque<int> d;
  std::atomic<bool> over{false};
  std::vector<std::thread> others;
  for (int t = 0; t < 2; t++) {
    others.emplace_back([&] {
      while (!over || !d.empty()) {
        if (int* i = d.take_oldest()) taken[std::size_t(*i)]++;
        else std::this_thread::yield();
      }
    });
  }
  std::minstd_rand random(1);
  for (int i = 0; i < n;) {
    for (unsigned k = random() % 300; k > 0 && i < n; k--) d.push(&index[std::size_t(i++)]);
    for (unsigned k = random() % 200; k > 0; k--) {
      if (int* got = d.pop()) taken[std::size_t(*got)]++;
    }
    if (random() % 8 == 0) std::this_thread::yield();
  }
  over = true;
  for (auto& t : others) t.join();
  CHECK(std::all_of(taken.begin(), taken.end(), [](auto& t) { return t == 1; }));
}

TEST_SUITE_END();
