// What keeps a fiber alive, and what happens to a fiber without handles.
#include <doctest/doctest.h>
#include <tendril/fiber.hpp>
#include <tendril/task.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace tendril;

namespace {

void to_parent() { fiber<>::current().parent().switch_to(); }

// Counts its instances, on any kernel thread.
struct counted {
  static inline std::atomic<int> alive{0};
  counted() { alive++; }
  counted(const counted&) { alive++; }
  ~counted() { alive--; }
};

// A fiber that is suspended with a counted object on its stack and one in its callable.
fiber<> suspended() {
  fiber<> f([c = counted()] {
    counted on_stack;
    to_parent();
  });
  f.switch_to();
  return f;
}

}  // namespace

TEST_CASE("the last handle of a suspended fiber unwinds it by fiber_exit") {
  bool exited = false;
  {
    fiber<> f([&] {
      try {
        to_parent();
      } catch (const fiber_exit&) {
        exited = true;
        throw;
      }
    });
    f.switch_to();
    fiber<> copy = f;
    f = {};
    CHECK_FALSE(exited);
  }
  CHECK(exited);
}

TEST_CASE("assigning to a handle drops its fiber") {
  fiber<> f = suspended();
  CHECK(counted::alive == 2);
  f = fiber<>([] {});
  CHECK(counted::alive == 0);
}

TEST_CASE("an unstarted fiber that is dropped never runs, and its callable is destroyed") {
  bool ran = false;
  {
    fiber<> f([&ran, c = counted()] { ran = true; });
    CHECK(counted::alive == 1);
  }
  CHECK_FALSE(ran);
  CHECK(counted::alive == 0);
}

TEST_CASE("while a fiber is unwound, its parent is the fiber that dropped it") {
  fiber<> original([] { FAIL("not switched to"); });
  any_fiber parent_then;
  {
    fiber<> f(
        [&, main = current_fiber()] {
          try {
            fiber<>(main).switch_to();
          } catch (const fiber_exit&) {
            parent_then = current_fiber().parent();
          }
        },
        original);
    f.switch_to();
  }
  CHECK(parent_then == current_fiber());
  CHECK_FALSE(original.started());
}

TEST_CASE(
    "a fiber that is dropped and catches fiber_exit may hand out a handle of itself, and its "
    "parent is restored") {
  fiber<> original([] {}), again;
  {
    fiber<> f(
        [&, main = current_fiber()] {
          try {
            fiber<>(main).switch_to();
          } catch (const fiber_exit&) {}
          again = fiber<>::current();
          to_parent();  // goes on running
        },
        original);
    f.switch_to();
  }
  REQUIRE(again.valid());
  CHECK_FALSE(again.dead());
  CHECK(again.parent() == original);
  again.parent(current_fiber());
  again.switch_to();
  CHECK(again.dead());
}

TEST_CASE(
    "a fiber that catches fiber_exit without handing out a handle stays suspended, and others go "
    "on") {
  int caught = 0;
  std::thread([&] {
    {
      fiber<> f([&] {
        counted c;
        for (;;) {
          try {
            to_parent();
          } catch (const fiber_exit&) {
            if (++caught == 2) throw;
          }
        }
      });
      f.switch_to();
    }
    CHECK(caught == 1);
    CHECK(counted::alive == 1);
    (void)suspended();
    CHECK(counted::alive == 1);
  }).join();
  // The thread's end raises it once more.
  CHECK(caught == 2);
  CHECK(counted::alive == 0);
}

TEST_CASE(
    "a fiber that drops its own last handle is unwound when it switches away, and the value "
    "arrives") {
  fiber<int> f;
  bool unwound = false;
  f = fiber<int>([&](int x) {
    struct guard {
      bool& b;
      ~guard() { b = true; }
    } g{unwound};
    f = {};
    CHECK_FALSE(unwound);
    return fiber<int>::current().parent().switch_to(x + 1);
  });
  CHECK(f.switch_to(41) == 42);
  CHECK(unwound);
}

TEST_CASE("a fiber that drops its own last handle and returns is destroyed") {
  fiber<int> f;
  f = fiber<int>([&, c = counted()](int x) {
    f = {};
    return x + 1;
  });
  CHECK(f.switch_to(1) == 2);
  CHECK(counted::alive == 0);
}

TEST_CASE("a fiber that drops its last handle and then hands out a new one is not unwound") {
  fiber<any_fiber> f;
  bool finished = false;
  f = fiber<any_fiber>([&](any_fiber) {
    f = {};
    any_fiber me = current_fiber();
    fiber<any_fiber>::current().parent().switch_to(std::move(me));
    finished = true;
    return any_fiber();
  });
  fiber<any_fiber> again(f.switch_to());
  REQUIRE(again.valid());
  CHECK_FALSE(again.dead());
  again.switch_to();
  CHECK(finished);
  CHECK(again.dead());
}

TEST_CASE("an exception other than fiber_exit during unwinding is reported and stops there") {
  int fds[2];
  REQUIRE(pipe(fds) == 0);
  int saved = dup(2);
  dup2(fds[1], 2);
  {
    fiber<> f(
        [] {
          try {
            to_parent();
          } catch (const fiber_exit&) {
            throw std::runtime_error("other");
          }
        },
        {.name = "stubborn"});
    f.switch_to();
  }
  dup2(saved, 2);
  close(saved);
  close(fds[1]);
  char text[256] = {};
  CHECK(read(fds[0], text, sizeof text - 1) > 0);
  close(fds[0]);
  CHECK(std::string(text) ==
        "tendril: an exception left fiber 'stubborn' while it was unwound; ignored\n");
}

TEST_CASE(
    "a fiber may be dropped inside another fiber, and in the destructor of one that is being "
    "unwound") {
  {
    fiber<> f([] {
      fiber<> inner = suspended();
      CHECK(counted::alive == 2);
    });
    f.switch_to();
    CHECK(counted::alive == 0);
  }
  {
    // The inner fiber is not a child of the outer one, so it does not hold it.
    fiber<> inner = suspended();
    fiber<> outer([&] {
      fiber<> mine = std::move(inner);
      to_parent();
    });
    outer.switch_to();
    CHECK(counted::alive == 2);
  }
  CHECK(counted::alive == 0);
}

TEST_CASE(
    "a fiber that waits in the hub when its last handle goes away runs on, and is unwound at its "
    "next "
    "switch") {
  bool woke = false, unwound = false;
  auto t = spawn([&] {
    fiber<> f;
    f = fiber<>([&] {
      struct guard {
        bool& b;
        ~guard() { b = true; }
      } g{unwound};
      f = {};
      yield();
      woke = true;
      to_parent();
      FAIL("not reached");
    });
    f.switch_to();
  });
  t.get();
  CHECK(woke);
  CHECK(unwound);
}

TEST_CASE("a fiber may wait in the hub while it is unwound") {
  std::vector<int> order;
  auto other = spawn([&] { order.push_back(1); });
  {
    fiber<> f([&] {
      struct waits {
        std::vector<int>& order;
        ~waits() {
          yield();
          order.push_back(2);
        }
      } w{order};
      to_parent();
    });
    f.switch_to();
  }
  CHECK(order == std::vector{1, 2});
  other.join();
}

TEST_CASE("the values that a fiber receives, holds and returns are destroyed once") {
  struct value : counted {
    using counted::counted;
  };
  {
    fiber<value> f([](value v) {
      v = fiber<value>::current().parent().switch_to(v);
      return v;
    });
    f.switch_to(value());
    f.switch_to(value());
    fiber<value> g([](value v) -> value { throw v; });
    CHECK_THROWS_AS(g.switch_to(value()), value);
    fiber<value> h([](value v) { return fiber<value>::current().parent().switch_to(v); });
    h.switch_to(value());
    CHECK_THROWS_AS(h.throw_(value()), value);
    fiber<value> unread([](value v) { return v; });
    CHECK_THROWS_AS(unread.throw_(value()), value);
  }
  CHECK(counted::alive == 0);
}

TEST_CASE("a long chain of dead parents is released without recursion") {
  fiber<> lets_go(
      [] {
        fiber<> youngest([] {}), oldest = youngest;
        youngest.switch_to();
        for (int i = 0; i < 100'000; i++) {
          fiber<> f([c = counted()] {});
          f.switch_to();
          oldest.parent(f);
          oldest = f;
        }
      },
      {.stack_size = 64 * 1024});
  lets_go.switch_to();
  CHECK(counted::alive == 0);
}

TEST_SUITE_BEGIN("other kernel threads");

TEST_CASE(
    "the last handle may be dropped on another kernel thread; the fiber is unwound on its own") {
  std::thread::id unwound_on;
  fiber<> f([&] {
    struct guard {
      std::thread::id& id;
      ~guard() { id = std::this_thread::get_id(); }
    } g{unwound_on};
    to_parent();
  });
  f.switch_to();
  std::thread([f = std::move(f)]() mutable { f = {}; }).join();
  CHECK(unwound_on == std::thread::id());
  fiber<> next([] {});
  CHECK(unwound_on == std::this_thread::get_id());
}

TEST_CASE("unstarted and dead fibers may be dropped on another kernel thread") {
  fiber<> fresh([c = counted()] {}), dead([c = counted()] {});
  dead.switch_to();
  std::thread([a = std::move(fresh), b = std::move(dead)]() mutable {}).join();
  fiber<> next([] {});
  CHECK(counted::alive == 0);
}

TEST_CASE(
    "handles of one fiber may be copied and dropped on several kernel threads while it runs") {
  for (int round = 0; round < 50; round++) {
    fiber<int> f([c = counted()](int x) {
      for (int i = 0; i < 20; i++) x = fiber<int>::current().parent().switch_to(x + 1);
      return x;
    });
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; t++) {
      threads.emplace_back([f] {
        for (int i = 0; i < 100; i++) {
          fiber<int> copy = f;
          (void)copy.dead();
        }
      });
    }
    // Drops its own handle before it has finished, so that the last handle may be dropped on any
    // thread at any time.
    fiber<int> local = f;
    f = {};
    for (int i = 0; i < 20; i++) local.switch_to(i);
    if (round % 2) local.switch_to(0);
    local = {};
    for (auto& t : threads) t.join();
  }
  fiber<> next([] {});
  CHECK(counted::alive == 0);
}

TEST_CASE("a fiber that is running may lose its last handle on another kernel thread") {
  for (int round = 0; round < 50; round++) {
    std::promise<fiber<>> given;
    std::thread drops([&] { given.get_future().get() = {}; });
    fiber<> f;
    f = fiber<>([&, c = counted(), round] {
      given.set_value(std::move(f));
      if (round % 2) to_parent();
    });
    fiber<> running = f;
    running.switch_to();
    running = {};
    drops.join();
  }
  fiber<> next([] {});
  CHECK(counted::alive == 0);
}

TEST_CASE("another kernel thread may ask whether a fiber has ended") {
  auto t = spawn([] { return 42; });
  std::thread asks([t] {
    while (!t.ready()) std::this_thread::yield();
    CHECK(t.successful());
    CHECK_FALSE(t.exception());
  });
  t.join();
  asks.join();
}

TEST_CASE("a kernel thread's end unwinds its suspended fibers, even if handles exist") {
  std::vector<fiber<>> kept;
  std::thread([&] {
    for (int i = 0; i < 3000; i++) kept.push_back(suspended());
    CHECK(counted::alive == 6000);
  }).join();
  CHECK(counted::alive == 0);
  for (auto& f : kept) CHECK(f.dead());
}

TEST_CASE("a kernel thread's end unwinds fibers that hold each other") {
  std::thread([] {
    fiber<> outer([] {
      counted c;
      fiber<> child([] {
        counted c2;
        fiber<> me = fiber<>::current();
        me.parent().switch_to();
      });
      child.switch_to();
      to_parent();
    });
    outer.switch_to();
    outer = {};
    CHECK(counted::alive == 2);
  }).join();
  CHECK(counted::alive == 0);
}

TEST_CASE("handles may outlive the kernel thread, and be dropped after its end") {
  std::vector<any_fiber> kept;
  std::thread([&] {
    kept.push_back(current_fiber());
    kept.push_back(fiber<>([c = counted()] {}));
    kept.push_back(suspended());
    fiber<> dead([c = counted()] {});
    dead.switch_to();
    kept.push_back(dead);
  }).join();
  CHECK(kept[0].is_main());
  CHECK(kept[0].dead());
  CHECK(kept[0].name() == "main");
  CHECK_FALSE(kept[1].started());
  CHECK(kept[2].dead());
  CHECK(kept[3].dead());
  kept.clear();
  CHECK(counted::alive == 0);
}

TEST_CASE(
    "the fiber of a handle that another thread dropped just before the kernel thread's end is "
    "unwound") {
  std::thread([] {
    fiber<> f = suspended();
    std::thread([f = std::move(f)]() mutable {}).join();
    CHECK(counted::alive == 2);
  }).join();
  CHECK(counted::alive == 0);
}

TEST_CASE(
    "a fiber that catches fiber_exit again and again does not hold up the kernel thread's end") {
  std::thread([] {
    static fiber<> f;
    f = fiber<>([] {
      for (;;) {
        try {
          to_parent();
        } catch (const fiber_exit&) {}
      }
    });
    f.switch_to();
  }).join();
}

TEST_CASE("kernel threads start and end with fibers in every state, and nothing is left") {
  for (int i = 0; i < 200; i++) {
    std::thread([] {
      fiber<> fresh([c = counted()] {}), s = suspended();
      auto t = spawn([c = counted()] { sleep(std::chrono::hours(1)); });
      auto never = spawn([c = counted()] {});
      t.as_fiber();
      if (!never.ready()) yield();
    }).join();
  }
  CHECK(counted::alive == 0);
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("process");

TEST_CASE("the process's exit abandons unfinished fibers and tasks") {
  // In a child process, so that exit() can be watched.
  std::cout << std::flush;  // else the child would write it once more
  pid_t child = fork();
  if (child == 0) {
    static fiber<> f([] {
      struct never {
        ~never() { _exit(1); }
      } n;
      to_parent();
    });
    f.switch_to();
    static auto t = spawn([] {
      struct never {
        ~never() { _exit(2); }
      } n;
      sleep(std::chrono::hours(1));
    });
    yield();
    // The effect of returning from main. It drops static handles, which would unwind f, so f is
    // held here.
    static auto* held = new fiber<>(f);
    (void)held;
    exit(0);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("a task may end the process") {
  std::cout << std::flush;  // else the child would write it once more
  pid_t child = fork();
  if (child == 0) {
    auto t = spawn([] {
      yield();
      exit(7);
    });
    t.join();
    _exit(1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 7);
}

TEST_SUITE_END();
