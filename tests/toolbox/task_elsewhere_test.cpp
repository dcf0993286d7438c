// Tasks that other kernel threads than their own wait for, kill and link to.
#include <doctest/doctest.h>
#include <tendril/event.hpp>
#include <tendril/latch.hpp>
#include <tendril/task.hpp>
#include <tendril/timeout.hpp>
#include <tendril/wait.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "exceptions_between_threads.hpp"

using namespace tendril;
using namespace std::chrono_literals;

namespace {

// Calls f() on another kernel thread, while the fibers of this one run.
void elsewhere(const std::function<void()>& f) {
  event over;
  std::thread other([&] {
    f();
    over.set();
  });
  over.wait();
  other.join();
}

}  // namespace

TEST_CASE("a task's end wakes who waits for it on another kernel thread, and gives it the result") {
  event go;
  auto t = spawn([&] {
    go.wait();
    return std::string("result");
  });
  elsewhere([&] {
    CHECK_FALSE(t.join(0s));
    CHECK_FALSE(t.join(1ms));
    CHECK_THROWS_AS((void)t.get(1ms), timeout_error);
    go.set();
    CHECK(t.get() == "result");
    t.join();
    CHECK(t.join(0s));
    CHECK(t.get() == "result");
  });
}

TEST_CASE("get on another kernel thread throws what the task threw, after its end, too") {
  auto t = spawn([]() -> int { throw std::runtime_error("from afar"); });
  elsewhere([&] { CHECK_THROWS_WITH(t.get(), "from afar"); });
  elsewhere([&] { CHECK_THROWS_WITH(t.get(), "from afar"); });
}

TEST_CASE("many fibers of several kernel threads wait for one task") {
  event go;
  latch waiting(12), woken(12);
  auto t = spawn([&] {
    go.wait();
    return 7;
  });
  std::vector<std::thread> threads;
  for (int h = 0; h < 3; h++) {
    threads.emplace_back([&] {
      std::vector<task<void>> fibers;
      for (int i = 0; i < 4; i++) {
        fibers.push_back(spawn([&] {
          waiting.count_down();
          CHECK(t.get() == 7);
          woken.count_down();
        }));
      }
      joinall(fibers);
    });
  }
  waiting.wait();
  go.set();
  woken.wait();
  for (auto& thread : threads) thread.join();
}

TEST_CASE("a kill from another kernel thread ends the task's wait, and waits for its end") {
  bool unwound = false;
  auto t = spawn([&] {
    struct sees {
      bool& b;
      ~sees() { b = true; }
    } s{unwound};
    sleep(1h);
  });
  yield();
  elsewhere([&] {
    t.kill();
    CHECK(t.ready());
    CHECK(t.successful());
  });
  CHECK(unwound);
  CHECK_THROWS_AS(t.get(), fiber_exit);
  elsewhere([&] { t.kill(); });
}

TEST_CASE("a kill from another kernel thread can have its own exception, and a time-out") {
  event caught, go_on;
  auto t = spawn([&] {
    try {
      sleep(1h);
    } catch (const fiber_exit&) {
      caught.set();
    }
    go_on.wait();
    sleep(1h);
  });
  yield();
  elsewhere([&] {
    CHECK_FALSE(t.kill(1ms));
    caught.wait();
    go_on.set();
    t.kill(std::runtime_error("enough"));
    CHECK_THROWS_WITH(t.get(), "enough");
  });
}

TEST_CASE("a request from another kernel thread kills, and does not wait") {
  auto t = spawn([] { sleep(1h); });
  std::thread([&] { t.request_kill(); }).join();  // this kernel thread runs no fiber meanwhile
  CHECK_FALSE(t.ready());
  t.join();
  CHECK_THROWS_AS(t.get(), fiber_exit);
}

TEST_CASE("a kill and a time-out end a wait for another kernel thread's task, which goes on") {
  event go;
  auto t = spawn([&] { go.wait(); });
  elsewhere([&] {
    auto waits = spawn([&] { t.join(); });
    yield();
    waits.kill();
    CHECK_THROWS_AS(waits.get(), fiber_exit);
    CHECK_FALSE(move_on_after(1ms, [&] { t.join(); }));
    CHECK_FALSE(t.ready());
  });
  go.set();
  t.get();
}

TEST_CASE("a link from another kernel thread is called on the task's, in the order of the links") {
  event go;
  std::vector<int> order;
  auto here = std::this_thread::get_id();
  auto t = spawn([&] {
    go.wait();
    return 1;
  });
  t.link([&] { order.push_back(0); });
  elsewhere([&] {
    t.link([&](const task<int>& ended) {
      CHECK(std::this_thread::get_id() == here);
      CHECK(ended == t);
      order.push_back(ended.get());
    });
    t.link_exception([&] { order.push_back(-1); });
    t.link_value([&] { order.push_back(2); });
    any_task(t).link([&] { order.push_back(3); });
    t.join(0s);  // the requests before it have been answered when that one is
    go.set();
    t.join();
  });
  CHECK(order == std::vector{0, 1, 2, 3});
}

TEST_CASE("a link from another kernel thread to an ended task is called at once, there") {
  auto t = spawn([] {});
  t.join();
  elsewhere([&] {
    auto me = std::this_thread::get_id();
    int called = 0;
    t.link([&] { called += std::this_thread::get_id() == me; });
    CHECK(called == 1);
  });
}

TEST_CASE("a link can be removed by any kernel thread, once") {
  event go;
  int called = 0;
  auto t = spawn([&] { go.wait(); });
  auto mine = t.link([&] { called++; });
  std::size_t others = 0;
  elsewhere([&] {
    CHECK(t.unlink(mine));
    CHECK_FALSE(t.unlink(mine));
    others = t.link([&] { called++; });
    CHECK(t.unlink(others));
    others = t.link([&] { called++; });
    CHECK_FALSE(t.unlink(others + 1));
  });
  CHECK(t.unlink(others));
  go.set();
  t.join();
  elsewhere([&] { CHECK_FALSE(t.unlink(others)); });
  CHECK(called == 0);
}

TEST_CASE("joinall and killall take tasks of several kernel threads") {
  event go;
  std::vector<task<int>> all;
  latch spawned(2);
  event over;
  std::vector<std::thread> threads;
  std::vector<task<int>> theirs[2];
  for (auto& mine : theirs) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5; i++) {
        mine.push_back(spawn([&, i] {
          go.wait();
          return i;
        }));
      }
      for (int i = 0; i < 5; i++) mine.push_back(spawn([] { return sleep(1h), 0; }));
      spawned.count_down();
      over.wait();
    });
  }
  spawned.wait();
  for (auto& t : theirs) all.insert(all.end(), t.begin(), t.begin() + 5);
  all.push_back(spawn([] { return 5; }));
  go.set();
  joinall(all);
  int sum = 0;
  for (auto& t : all) sum += t.get();
  CHECK(sum == 25);
  std::vector<task<int>> sleepers;
  for (auto& t : theirs) sleepers.insert(sleepers.end(), t.begin() + 5, t.end());
  killall(sleepers);
  for (auto& t : sleepers) CHECK_THROWS_AS(t.get(), fiber_exit);
  over.set();
  for (auto& thread : threads) thread.join();
}

TEST_CASE(
    "the end of a task's kernel thread ends the waits for it, since the task is killed then") {
  for (int round = 0; round < 50; round++) {
    std::optional<task<void>> t;
    event spawned, end;
    std::thread theirs([&] {
      t = spawn([] { sleep(1h); });
      yield();
      spawned.set();
      end.wait();
    });
    spawned.wait();
    auto waits = spawn([&] { t->join(); });
    auto kills = spawn([&] { t->kill(); });
    if (round % 2) yield();
    end.set();
    waits.get();
    kills.get();
    theirs.join();
    CHECK_THROWS_AS(t->get(), fiber_exit);
    t->kill();
  }
}

TEST_CASE("in a forked child, a task of another kernel thread cannot be waited for") {
  std::optional<task<void>> t;
  event spawned, end;
  std::thread theirs([&] {
    t = spawn([] { sleep(1h); });
    spawned.set();
    end.wait();
  });
  spawned.wait();
  pid_t child = fork();
  if (child == 0) {
    bool refused = false;
    t->request_kill();
    try {
      t->join();
    } catch (const fiber_error&) {
      refused = true;
    }
    _exit(refused ? 0 : 1);
  }
  int status = 1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  end.set();
  theirs.join();
}

TEST_CASE("joins, kills, links and time-outs of several kernel threads lose no end (seeded)") {
  for (unsigned seed = 1; seed <= 4; seed++) {
    constexpr int hubs = 3, each = 60;
    std::vector<task<int>> tasks[hubs];
    std::atomic<int> linked{0}, links{0}, ended{0};
    latch spawned(hubs), done(hubs);
    std::vector<std::thread> threads;
    for (int h = 0; h < hubs; h++) {
      threads.emplace_back([&, h] {
        std::minstd_rand random(seed * 10 + unsigned(h));
        for (int i = 0; i < each; i++) {
          tasks[h].push_back(spawn([&, kind = random() % 3] {
            if (kind == 0) sleep(1h);  // until it is killed
            if (kind == 1) sleep(std::chrono::microseconds(200));
            if (kind == 2) yield();
            return 1;
          }));
        }
        spawned.count_down();
        spawned.wait();
        std::vector<task<void>> mine;
        for (int i = 0; i < each; i++) {
          mine.push_back(spawn([&, s = unsigned(random())] {
            std::minstd_rand choose(s);
            auto t = tasks[choose() % hubs][choose() % each];
            switch (choose() % 5) {
              case 0:
                t.request_kill();
                break;
              case 1:
                t.join(std::chrono::microseconds(choose() % 300));
                break;
              case 2:
                links++, t.link([&] { linked++; });
                break;
              case 3:
                t.unlink(12345);
                break;
              default:
                t.kill();
                break;
            }
          }));
        }
        joinall(mine);
        done.count_down();
        done.wait();
        for (auto& t : tasks[(h + 1) % hubs]) {
          t.kill();
          ended++;
        }
        done.wait();
        // The hub serves the others until they are done, too.
        while (ended < hubs * each) sleep(100us);
      });
    }
    for (auto& t : threads) t.join();
    CHECK(linked == links);
    for (auto& hub : tasks) {
      for (auto& t : hub) CHECK(t.ready());
    }
  }
}
