// Semaphores, mutexes, conditions, barriers, once: fairness, hand-over, and that no wake-up is
// lost.
#include <doctest/doctest.h>
#include <tendril/barrier.hpp>
#include <tendril/condition.hpp>
#include <tendril/mutex.hpp>
#include <tendril/once.hpp>
#include <tendril/semaphore.hpp>
#include <tendril/shared_mutex.hpp>
#include <tendril/task.hpp>

#include <algorithm>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <string>
#include <vector>

using namespace tendril;
using namespace std::chrono_literals;

TEST_SUITE_BEGIN("semaphore");

TEST_CASE("a semaphore has as many permits as it was given; then acquire waits") {
  semaphore s(2);
  s.acquire();
  CHECK(s.value() == 1);
  CHECK(s.acquire(0s));
  CHECK(s.locked());
  CHECK_FALSE(s.try_acquire());
  CHECK_FALSE(s.acquire(1ms));
  auto t = spawn([&] { s.acquire(); });
  yield();
  CHECK_FALSE(t.ready());
  s.release();
  t.join();
  CHECK(s.value() == 0);
  s.release(5);
  CHECK(s.value() == 5);
}

TEST_CASE(
    "permits go to the waiters in the order of their arrival, and no later caller overtakes") {
  semaphore s(0);
  std::vector<int> order;
  std::vector<task<void>> tasks;
  for (int i = 0; i < 4; i++) tasks.push_back(spawn([&, i] { s.acquire(), order.push_back(i); }));
  yield();
  s.release();
  CHECK_FALSE(s.try_acquire());  // it belongs to the first waiter, which has not run yet
  s.release(3);
  joinall(tasks);
  CHECK(order == std::vector{0, 1, 2, 3});
}

TEST_CASE("a waiter that times out or is killed takes no permit") {
  semaphore s(0);
  auto hasty = spawn([&] { return s.acquire(1ms); });
  auto killed = spawn([&] { s.acquire(); });
  auto patient = spawn([&] { s.acquire(); });
  CHECK_FALSE(hasty.get());
  killed.kill();
  s.release();
  patient.get();
  CHECK(s.value() == 0);
}

TEST_CASE("a permit for a waiter that has been killed goes to the next") {
  semaphore s(0);
  auto killed = spawn([&] { s.acquire(); });
  auto next = spawn([&] { s.acquire(); });
  yield();
  killed.request_kill();
  s.release();  // the killed fiber has not run yet, and is the first waiter
  next.get();
  CHECK_THROWS_AS(killed.get(), fiber_exit);
  CHECK(s.value() == 0);
}

TEST_CASE("a kill that comes after the permit takes effect at the task's next wait") {
  semaphore s(0);
  bool got = false;
  auto t = spawn([&] {
    std::lock_guard permit(s);
    got = true;
    sleep(1h);
  });
  yield();
  s.release();
  t.kill();
  CHECK(got);
  CHECK(s.value() == 1);
}

TEST_CASE("a bounded semaphore refuses a surplus release") {
  bounded_semaphore s(1);
  CHECK_THROWS_AS(s.release(), error);
  s.acquire();
  s.release();
  CHECK_THROWS_AS(s.release(), error);
  CHECK(s.value() == 1);
  CHECK_THROWS_AS(semaphore(-1), error);
}

TEST_CASE("waiting for a semaphore takes no permit") {
  semaphore s(0);
  CHECK_FALSE(s.wait(1ms));
  auto t = spawn([&] { s.wait(); });
  yield();
  s.release();
  t.get();
  CHECK(s.value() == 1);
  s.wait();
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("mutex");

TEST_CASE("one fiber at a time holds a mutex, also while it waits") {
  tendril::mutex m;
  int inside = 0, most = 0;
  std::vector<task<void>> tasks;
  for (int i = 0; i < 10; i++) {
    tasks.push_back(spawn([&] {
      for (int k = 0; k < 10; k++) {
        std::lock_guard lock(m);
        most = std::max(most, ++inside);
        yield();
        inside--;
      }
    }));
  }
  joinall(tasks);
  CHECK(most == 1);
  CHECK_FALSE(m.locked());
}

TEST_CASE("unlock hands over to the first waiter, and no later caller overtakes") {
  tendril::mutex m;
  std::vector<int> order;
  m.lock();
  std::vector<task<void>> tasks;
  for (int i = 0; i < 3; i++) {
    tasks.push_back(spawn([&, i] {
      std::lock_guard lock(m);
      order.push_back(i);
    }));
  }
  yield();
  m.unlock();
  CHECK_FALSE(m.try_lock());
  m.lock();
  order.push_back(3);
  m.unlock();
  joinall(tasks);
  CHECK(order == std::vector{0, 1, 2, 3});
}

TEST_CASE("a mutex reports misuse: locked twice, or unlocked by a fiber that is not its owner") {
  tendril::mutex m;
  m.lock();
  CHECK(m.owned());
  CHECK_THROWS_WITH_AS(m.lock(), "mutex: locked again by the fiber that has it", error);
  spawn([&] {
    CHECK_FALSE(m.owned());
    CHECK_THROWS_AS(m.unlock(), error);
  }).get();
  m.unlock();
  CHECK_THROWS_AS(m.unlock(), error);
}

TEST_CASE("try_lock_for gives up, and a mutex works with unique_lock and scoped_lock") {
  tendril::mutex m;
  semaphore s(1);
  std::unique_lock lock(m);
  spawn([&] {
    CHECK_FALSE(m.try_lock());
    CHECK_FALSE(m.try_lock_for(1ms));
    CHECK_FALSE(std::unique_lock(m, 1ms).owns_lock());
  }).get();
  lock.unlock();
  std::scoped_lock both(m, s);
  CHECK(m.owned());
  CHECK(s.locked());
}

TEST_CASE("a mutex handed to a fiber that has been killed goes to the next") {
  tendril::mutex m;
  m.lock();
  auto killed = spawn([&] { std::lock_guard lock(m); });
  auto next = spawn([&] { std::lock_guard lock(m); });
  yield();
  killed.request_kill();
  m.unlock();
  next.get();
  CHECK_FALSE(m.locked());
}

TEST_CASE("a recursive_mutex may be locked again by its owner, and has to be unlocked as often") {
  tendril::recursive_mutex m;
  m.lock();
  m.lock();
  CHECK(m.try_lock());
  auto other = spawn([&] { std::lock_guard lock(m); });
  for (int i = 0; i < 3; i++) {
    yield();
    CHECK_FALSE(other.ready());
    m.unlock();
  }
  other.get();
  CHECK_FALSE(m.locked());
  CHECK_THROWS_AS(m.unlock(), error);
}

TEST_CASE(
    "a shared_mutex admits readers together, and writers alone, in the order of their arrival") {
  tendril::shared_mutex m;
  std::string log;
  std::vector<task<void>> tasks;
  auto reader = [&](char name) {
    std::shared_lock lock(m);
    log += name;
    yield();
    log += name;
  };
  auto writer = [&](char name) {
    std::unique_lock lock(m);
    log += name;
    yield();
    log += name;
  };
  tasks.push_back(spawn(reader, 'a'));
  tasks.push_back(spawn(reader, 'b'));
  tasks.push_back(spawn(writer, 'W'));
  tasks.push_back(spawn(reader, 'c'));
  tasks.push_back(spawn(reader, 'd'));
  joinall(tasks);
  CHECK(log == "ababWWcdcd");
  CHECK_THROWS_AS(m.unlock(), error);
  CHECK_THROWS_AS(m.unlock_shared(), error);
}

TEST_CASE("readers queued behind a writer that gives up go on") {
  tendril::shared_mutex m;
  m.lock_shared();
  auto writer = spawn([&] { return m.try_lock_for(1ms); });
  yield();
  CHECK_FALSE(m.try_lock_shared());
  auto reader = spawn([&] { std::shared_lock lock(m); });
  CHECK_FALSE(writer.get());
  reader.get();
  auto killed = spawn([&] { m.lock(); });
  yield();
  auto second = spawn([&] { std::shared_lock lock(m); });
  yield();
  killed.kill();
  second.get();
  m.unlock_shared();
  CHECK(m.try_lock());
  CHECK_FALSE(m.try_lock_shared_for(1ms));
  m.unlock();
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("condition");

TEST_CASE(
    "a waiter that is killed has the lock again, whatever comes while it waits for the lock") {
  mutex m;
  condition c;
  bool owned = false;
  auto t = spawn([&] {
    std::unique_lock lock(m);
    try {
      c.wait(lock);
    } catch (const fiber_exit&) {
      owned = m.owned();
      throw;
    }
  });
  yield();
  m.lock();
  t.request_kill();
  yield();  // it waits for the lock
  t.request_kill();
  yield();
  CHECK_FALSE(t.ready());
  m.unlock();
  try {
    t.join();
  } catch (...) {}
  CHECK(owned);
  CHECK_FALSE(m.locked());
}

TEST_CASE("a waiter that is killed after it was notified takes the lock before the kill arrives") {
  mutex m;
  condition c;
  bool owned = false;
  auto t = spawn([&] {
    std::unique_lock lock(m);
    c.wait(lock);
    owned = m.owned();
    yield();
    FAIL("the kill did not arrive");
  });
  yield();
  m.lock();
  c.notify_one();
  yield();  // it waits for the lock
  t.request_kill();
  yield();
  CHECK_FALSE(t.ready());
  m.unlock();
  CHECK_THROWS_AS(t.get(), fiber_exit);
  CHECK(owned);
  CHECK_FALSE(m.locked());
}

TEST_CASE("notify_one wakes the first waiter, notify_all all; they hold the lock again then") {
  tendril::mutex m;
  condition c;
  std::vector<int> order;
  std::vector<task<void>> tasks;
  for (int i = 0; i < 4; i++) {
    tasks.push_back(spawn([&, i] {
      std::unique_lock lock(m);
      c.wait(lock);
      CHECK(m.owned());
      order.push_back(i);
    }));
  }
  yield();
  c.notify_one();
  yield();
  CHECK(order == std::vector{0});
  c.notify(1);
  yield();
  CHECK(order == std::vector{0, 1});
  c.notify_all();
  joinall(tasks);
  CHECK(order == std::vector{0, 1, 2, 3});
}

TEST_CASE("a wait with a predicate, with a time-out, with both") {
  tendril::mutex m;
  condition c;
  int n = 0;
  std::unique_lock lock(m);
  CHECK(c.wait_for(lock, 1ms) == std::cv_status::timeout);
  CHECK(m.owned());
  CHECK_FALSE(c.wait_for(lock, 1ms, [&] { return n == 3; }));
  auto t = spawn([&] {
    for (int i = 0; i < 3; i++) {
      {
        std::lock_guard inner(m);
        n++;
      }
      c.notify_one();
      yield();
    }
  });
  c.wait(lock, [&] { return n == 3; });
  CHECK(n == 3);
  CHECK(c.wait_for(lock, 0ms, [&] { return n == 3; }));
  lock.unlock();
  t.join();
}

TEST_CASE("at the end of its time, a wait with a predicate asks it once more") {
  tendril::mutex m;
  condition c;
  bool ready = false;
  std::unique_lock lock(m);
  auto t = spawn([&] { ready = true; });  // without a notification
  CHECK(c.wait_for(lock, 1ms, [&] { return ready; }));
}

TEST_CASE(
    "a fiber that is killed while it waits holds the lock as it unwinds, and passes its "
    "notification on") {
  tendril::mutex m;
  condition c;
  bool owned = false;
  auto killed = spawn([&] {
    std::unique_lock lock(m);
    struct look {
      tendril::mutex& m;
      bool& owned;
      ~look() { owned = m.owned(); }
    } guard{m, owned};
    c.wait(lock);
  });
  auto next = spawn([&] {
    std::unique_lock lock(m);
    c.wait(lock);
  });
  yield();
  m.lock();
  killed.request_kill();
  c.notify_one();
  yield();
  CHECK_FALSE(killed.ready());  // it waits for the lock, and the kill does not end that wait
  m.unlock();
  next.get();
  CHECK(owned);
  CHECK_THROWS_AS(killed.get(), fiber_exit);
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("barrier and once");

TEST_CASE("a barrier releases all fibers when the last has arrived, repeatedly") {
  int completed = 0;
  barrier b(3, [&] { completed++; });
  std::string log;
  std::vector<task<void>> tasks;
  for (char name : {'a', 'b', 'c'}) {
    tasks.push_back(spawn([&, name] {
      for (int i = 0; i < 3; i++) {
        log += name;
        b.wait();
      }
    }));
  }
  joinall(tasks);
  CHECK(completed == 3);
  CHECK(log.size() == 9);
  for (std::size_t i = 0; i < 9; i += 3) {
    std::string round = log.substr(i, 3);
    std::ranges::sort(round);
    CHECK(round == "abc");
  }
  CHECK(b.parties() == 3);
  CHECK(b.waiting() == 0);
}

TEST_CASE("a barrier breaks when a waiter gives up, and works again after reset") {
  barrier b(3);
  auto a = spawn([&] { b.wait(); });
  auto c = spawn([&] { b.wait(1ms); });
  CHECK_THROWS_AS(a.get(), broken_barrier);
  CHECK_THROWS_AS(c.get(), broken_barrier);
  CHECK(b.broken());
  CHECK_THROWS_AS(b.wait(), broken_barrier);
  b.reset();
  auto d = spawn([&] { b.wait(); });
  auto e = spawn([&] { b.wait(); });
  yield();
  d.kill();
  CHECK_THROWS_AS(e.get(), broken_barrier);
  b.reset();
  auto f = spawn([&] { return b.wait(); });
  auto g = spawn([&] { return b.wait(); });
  CHECK(f.valid());
  yield();
  CHECK(b.wait() == 0);
  CHECK(f.get() == 2);
  CHECK(g.get() == 1);
}

TEST_CASE("the completion of a barrier may not wait, and its exception breaks the barrier") {
  barrier b(2, [] { yield(); });
  auto t = spawn([&] { b.wait(); });
  yield();
  CHECK_THROWS_WITH(b.wait(), "the completion of a barrier cannot wait");
  CHECK_THROWS_AS(t.get(), broken_barrier);
}

TEST_CASE(
    "once calls once, though many fibers call it meanwhile; a call that throws does not count") {
  once o;
  int calls = 0;
  std::vector<task<void>> tasks;
  for (int i = 0; i < 5; i++) {
    tasks.push_back(spawn([&] {
      o([&] {
        yield();
        if (++calls == 1) throw std::runtime_error("first");
      });
      CHECK(o.done());
    }));
  }
  joinall(tasks);
  CHECK(calls == 2);
  CHECK_THROWS_WITH(tasks[0].get(), "first");
  CHECK_NOTHROW(tasks[4].get());
}

TEST_SUITE_END();
