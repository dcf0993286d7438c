// Many fibers perform random operations, in an order that a fixed seed determines.
#include <doctest/doctest.h>
#include <tendril/fiber.hpp>
#include <tendril/task.hpp>

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <mutex>
#include <random>
#include <stdexcept>
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

struct oops {};

using dice = std::minstd_rand;
std::size_t pick(dice& r, std::size_t n) { return r() % n; }

}  // namespace

TEST_CASE("thousands of suspended fibers each keep their place") {
  constexpr int n = 5000;  // ThreadSanitizer supports 8128 threads and fibers in all
  {
    std::vector<fiber<int>> fibers;
    for (int i = 0; i < n; i++) {
      fibers.emplace_back([c = counted()](int x) {
        for (;;) x = fiber<int>::current().parent().switch_to(x + 1);
        return 0;
      });
    }
    long sum = 0;
    for (int round = 0; round < 3; round++) {
      for (int i = 0; i < n; i++) sum += fibers[std::size_t(i)].switch_to(i);
    }
    CHECK(sum == 3L * (long(n) * (n - 1) / 2 + n));
    CHECK(counted::alive.load() == n);
  }
  CHECK(counted::alive.load() == 0);
}

TEST_CASE("a ring of fibers passes a token around without their parent") {
  constexpr std::size_t n = 1000;
  std::vector<fiber<long>> ring;
  for (std::size_t i = 0; i < n; i++) {
    ring.emplace_back([&ring, i](long token) {
      while (token < 20'000) token = ring[(i + 1) % n].switch_to(token + 1);
      return token;
    });
  }
  CHECK(ring[0].switch_to(0) == 20'000);
}

TEST_CASE("a hundred thousand fibers, one after another, use one stack") {
  for (int i = 0; i < 100'000; i++) {
    fiber<int> f([](int x) { return x + 1; });
    if (f.switch_to(i) != i + 1) FAIL("wrong value");
  }
}

TEST_CASE(
    "random switches, throws, reparenting, new fibers and dropped handles leave nothing behind") {
  // On a separate kernel thread, whose end unwinds the fibers that hold each other.
  std::thread([] {
    dice r(20);
    std::vector<fiber<int>> pool;
    any_fiber main = current_fiber();
    int depth = 0, ended = 0;
    std::function<int(int)> body = [&](int x) {
      counted on_stack;
      for (int turn = 0; turn < 30; turn++) {
        try {
          switch (pick(r, 8)) {
            case 0:
              throw oops();
            case 1:
              return x;
            case 2:
              if (depth < 20 && !pool.empty()) {
                depth++;
                fiber<int> next = pool[pick(r, pool.size())];
                x = next.switch_to(x + 1);
                depth--;
                break;
              }
              [[fallthrough]];
            case 3: {
              fiber<int> mine([&](int y) {
                counted c;
                if (pick(r, 2)) return y;
                throw oops();
              });
              x = mine.switch_to(x);
              break;
            }
            default:
              x = fiber<int>(main).switch_to(x + 1);
          }
        } catch (const oops&) {
          if (pick(r, 2)) throw;
          x = fiber<int>(main).switch_to(std::current_exception() ? 1 : -1);
        }
      }
      return x;
    };
    for (int step = 0; step < 50'000; step++) {
      try {
        depth = 0;
        if (pool.size() < 50) {
          pool.emplace_back(body);
          continue;
        }
        std::size_t i = pick(r, pool.size());
        fiber<int> f = pool[i];
        switch (pick(r, 10)) {
          case 0:
            f.throw_(oops());
            break;
          case 1:
            f.throw_();
            break;
          case 2:
            pool[i] = pool.back();
            pool.pop_back();
            break;
          case 3:
            try {
              f.parent(pool[pick(r, pool.size())]);
            } catch (const fiber_error&) {
              f.parent(current_fiber());
            }
            break;
          default:
            if (f.dead()) {
              ended++;
              pool[i] = pool.back();
              pool.pop_back();
            } else {
              f.switch_to(step);
            }
        }
      } catch (const oops&) {}
    }
    CHECK(ended > 100);
  }).join();
  CHECK(counted::alive.load() == 0);
}

TEST_CASE("a thousand tasks that wait for, kill and yield to each other all end") {
  {
    dice r(7);
    std::vector<task<int>> tasks;
    for (int i = 0; i < 1000; i++) {
      tasks.push_back(spawn([&, i, c = counted()] {
        counted on_stack;
        for (int k = 0; k < 5; k++) {
          switch (pick(r, 4)) {
            case 0:
              sleep(std::chrono::microseconds(pick(r, 500)));
              break;
            case 1: {
              auto& other = tasks[pick(r, tasks.size())];
              if (other.as_fiber() != current_fiber())
                other.join(std::chrono::microseconds(pick(r, 500)));
              break;
            }
            case 2:
              tasks[pick(r, tasks.size())].request_kill();
              break;
            default:
              yield();
          }
        }
        return i;
      }));
    }
    joinall(tasks);
    for (auto& t : tasks) CHECK(t.ready());
  }
  CHECK(counted::alive.load() == 0);
}

TEST_CASE("a few tasks may have any number of explicit fibers waiting in the hub at once") {
  // Two tasks wake each other by explicit switches; between two switches, each starts a fiber that
  // parks.
  std::thread([] {
    constexpr int n = 3000;
    int parked = 0;
    std::vector<fiber<>> fibers;
    auto starter = spawn([&] {
      while (parked < n) {
        fibers.emplace_back([&] {
          counted c;
          parked++;
          sleep(1h);
        });
        fibers.back().switch_to();
      }
    });
    fiber<> s(starter.as_fiber());
    while (parked < n) {
      spawn([&] {
        if (s) s.switch_to();
      });
      yield();
    }
    CHECK(counted::alive.load() == n);
    // At the thread's end all of them become runnable at once.
  }).join();
  CHECK(counted::alive.load() == 0);
}

TEST_CASE("handles travel between kernel threads while their fibers run, and nothing is lost") {
  std::mutex lock;
  std::deque<fiber<int>> box;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&, t] {
      dice r(unsigned(t) + 1);
      std::vector<fiber<int>> mine;
      for (int i = 0; i < 2000; i++) {
        fiber<int> f([c = counted()](int x) {
          counted on_stack;
          for (;;) x = fiber<int>::current().parent().switch_to(x);
          return 0;
        });
        if (pick(r, 2)) f.switch_to(i);
        std::lock_guard guard(lock);
        if (pick(r, 2)) mine.push_back(f);
        box.push_back(std::move(f));
        if (box.size() > 20) box.pop_front();
        if (mine.size() > 50) mine.erase(mine.begin());
      }
    });
  }
  for (auto& t : threads) t.join();
  box.clear();
  CHECK(counted::alive.load() == 0);
}
