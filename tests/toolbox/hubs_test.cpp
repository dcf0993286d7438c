// Several hubs, one for each kernel thread, exchange work through the synchronisation objects: no
// work is lost, and no fiber sleeps for ever.
#include <doctest/doctest.h>
#include <tendril/async_result.hpp>
#include <tendril/barrier.hpp>
#include <tendril/channel.hpp>
#include <tendril/condition.hpp>
#include <tendril/event.hpp>
#include <tendril/latch.hpp>
#include <tendril/local.hpp>
#include <tendril/mutex.hpp>
#include <tendril/once.hpp>
#include <tendril/queue.hpp>
#include <tendril/semaphore.hpp>
#include <tendril/shared_mutex.hpp>
#include <tendril/task.hpp>
#include <tendril/wait.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <thread>
#include <vector>

using namespace tendril;
using namespace std::chrono_literals;

namespace {

constexpr int hubs = 3;
constexpr int fibers = 4;  // on each hub
constexpr int rounds = 300;

// Runs f(hub, fiber) in each fiber of each hub, and waits for all of them.
void on_all(const std::function<void(int, int)>& f) {
  std::vector<std::thread> threads;
  for (int h = 0; h < hubs; h++) {
    threads.emplace_back([&, h] {
      std::vector<task<void>> tasks;
      for (int i = 0; i < fibers; i++) tasks.push_back(spawn(f, h, i));
      for (auto& t : tasks) t.get();
    });
  }
  for (auto& t : threads) t.join();
}

}  // namespace

TEST_CASE("an event wakes fibers of all hubs, set by a thread without fibers") {
  for (int round = 0; round < 20; round++) {
    event e;
    latch waiting(hubs * fibers);
    std::thread setter([&] {
      waiting.wait();
      e.set();
    });
    on_all([&](int, int) {
      waiting.count_down();
      e.wait();
    });
    setter.join();
  }
}

TEST_CASE("an async_result set by another kernel thread may go away as soon as get returns") {
  for (int round = 0; round < rounds; round++) {
    auto r = std::make_unique<async_result<int>>();
    std::thread setter([&r = *r, round] { r.set(round); });
    CHECK(r->get() == round);
    r.reset();
    setter.join();
  }
}

TEST_CASE("a permit may be taken on one hub and given back on another") {
  semaphore ping(0), pong(0);
  std::thread other([&] {
    for (int i = 0; i < rounds; i++) {
      ping.acquire();
      pong.release();
    }
  });
  for (int i = 0; i < rounds; i++) {
    ping.release();
    pong.acquire();
  }
  other.join();
  CHECK(ping.value() == 0);
  CHECK(pong.value() == 0);
}

TEST_CASE("a mutex excludes the fibers of all hubs from each other") {
  tendril::mutex m;
  long n = 0;
  on_all([&](int, int) {
    for (int i = 0; i < rounds; i++) {
      std::lock_guard lock(m);
      n++;
      if (i % 16 == 0) yield();
    }
  });
  CHECK(n == long(hubs) * fibers * rounds);
}

TEST_CASE("a shared_mutex excludes writers from all other fibers") {
  tendril::shared_mutex m;
  long a = 0, b = 0;
  on_all([&](int, int i) {
    for (int k = 0; k < rounds / 2; k++) {
      if (i == 0) {
        std::unique_lock lock(m);
        a++;
        yield();
        b++;
      } else {
        std::shared_lock lock(m);
        CHECK(a == b);
      }
    }
  });
  CHECK(a == long(hubs) * (rounds / 2));
}

TEST_CASE("a condition loses no notification between hubs") {
  tendril::mutex m;
  condition changed;
  int available = 0, taken = 0;
  const int total = hubs * (fibers / 2) * rounds;
  on_all([&](int, int i) {
    for (int k = 0; k < rounds; k++) {
      std::unique_lock lock(m);
      if (i % 2 == 0) {
        available++;
        changed.notify_one();
      } else {
        changed.wait(lock, [&] { return available > 0; });
        available--;
        taken++;
      }
    }
  });
  CHECK(taken == total);
  CHECK(available == 0);
}

TEST_CASE("a barrier brings the fibers of all hubs together") {
  barrier b(hubs * fibers);
  std::atomic<int> n{0};
  on_all([&](int, int) {
    for (int k = 1; k <= 20; k++) {
      n++;
      b.wait();
      CHECK(n.load() == k * hubs * fibers);
      b.wait();
    }
  });
}

TEST_CASE("once calls once for all hubs") {
  once o;
  int calls = 0;
  on_all([&](int, int) {
    o([&] {
      yield();
      calls++;
    });
    CHECK(calls == 1);
  });
}

TEST_CASE("every item of a queue is got exactly once, on whichever hubs it is put and got") {
  for (std::size_t bound : {std::size_t(1), std::size_t(7), queue<int>::unbounded}) {
    queue<int> q(bound);
    std::atomic<long> sum{0}, got{0};
    std::atomic<int> producers{hubs * (fibers / 2)};
    on_all([&](int, int i) {
      if (i % 2 == 0) {
        for (int k = 1; k <= rounds; k++) q.put(k);
        if (--producers == 0) q.shutdown();
      } else {
        for (int k : q) sum += k, got++;
      }
    });
    CHECK(got == long(hubs) * (fibers / 2) * rounds);
    CHECK(sum == long(hubs) * (fibers / 2) * rounds * (rounds + 1) / 2);
  }
}

TEST_CASE("no item is lost when getters time out and are killed meanwhile") {
  queue<int> q;
  std::atomic<long> sum{0};
  std::atomic<int> producers{hubs};
  on_all([&](int, int i) {
    if (i == 0) {
      for (int k = 1; k <= rounds; k++) {
        q.put(k);
        if (k % 8 == 0) yield();
      }
      if (--producers == 0) q.shutdown();
      return;
    }
    for (;;) {
      auto victim = spawn([&]() -> bool {
        try {
          auto item = i == 1 ? q.get(1us) : std::optional(q.get());
          if (item) sum += *item;
          return true;
        } catch (const queue_shutdown&) {
          return false;
        }
      });
      yield();
      if (i == 2) victim.request_kill();
      try {
        if (!victim.get()) break;
      } catch (const fiber_exit&) {
        if (q.is_shutdown() && q.empty()) break;
      }
    }
  });
  CHECK(sum == long(hubs) * rounds * (rounds + 1) / 2);
}

TEST_CASE("a channel hands every value to one receiver, with and without a buffer") {
  for (std::size_t capacity : {std::size_t(0), std::size_t(5)}) {
    channel<int> c(capacity);
    std::atomic<long> sum{0};
    std::atomic<int> senders{hubs * (fibers / 2)};
    on_all([&](int, int i) {
      if (i % 2 == 0) {
        for (int k = 1; k <= rounds; k++) c.send(k);
        if (--senders == 0) c.close();
      } else {
        for (int k : c) sum += k;
      }
    });
    CHECK(sum == long(hubs) * (fibers / 2) * rounds * (rounds + 1) / 2);
  }
}

TEST_CASE("selects of several hubs over the same channels meet without loss") {
  channel<int> a, b, done;
  std::atomic<long> sent{0}, received{0};
  std::atomic<int> senders{hubs * (fibers / 2)};
  on_all([&](int, int i) {
    if (i % 2 == 0) {
      for (int k = 1; k <= rounds; k++) {
        select(on_send(a, k, [&] { sent += k; }), on_send(b, -k, [&] { sent -= k; }));
      }
      if (--senders == 0) done.close();
    } else {
      for (bool more = true; more;) {
        select(on_receive(b, [&](auto v) { received += *v; }),
               on_receive(a, [&](auto v) { received += *v; }),
               on_receive(done, [&](auto) { more = false; }));
      }
    }
  });
  CHECK(sent == received);
}

TEST_CASE("a wait for several things is ended by other kernel threads") {
  for (int round = 0; round < 50; round++) {
    event e;
    async_result<int> r;
    semaphore s(0);
    std::thread first([&] { e.set(), s.release(); });
    std::thread second([&] { r.set(1); });
    CHECK(tendril::wait(std::vector<waitable>{e, r, s}).size() == 3);
    first.join();
    second.join();
  }
}

TEST_CASE("a time-out that races with a grant of another hub either takes it or leaves it") {
  semaphore s(0);
  std::atomic<int> got{0}, given{0};
  std::atomic<bool> over{false};
  std::thread giver([&] {
    for (int i = 0; i < rounds; i++) {
      s.release();
      given++;
      std::this_thread::yield();
    }
    over = true;
  });
  while (!over) got += s.acquire(1us);
  giver.join();
  while (s.try_acquire()) got++;
  CHECK(got == given);
}

TEST_CASE("fiber-local values of several hubs keep apart") {
  local<int> n;
  on_all([&](int h, int i) {
    *n = h * 100 + i;
    for (int k = 0; k < 20; k++) {
      yield();
      CHECK(*n == h * 100 + i);
    }
  });
}
