// Queues: order, bounds, time-outs, shutdown, and that no item is lost.
#include <doctest/doctest.h>
#include <tendril/queue.hpp>
#include <tendril/task.hpp>

#include <memory>
#include <string>
#include <vector>

using namespace tendril;
using namespace std::chrono_literals;

TEST_SUITE_BEGIN("queue");

TEST_CASE("items come out in the order in which they were put") {
  queue<int> q;
  CHECK(q.empty());
  for (int i = 0; i < 3; i++) q.put(i);
  CHECK(q.size() == 3);
  CHECK_FALSE(q.full());
  CHECK(q.peek() == 0);
  CHECK(q.get() == 0);
  CHECK(q.get() == 1);
  CHECK(*q.try_peek() == 2);
  CHECK(*q.try_get() == 2);
  CHECK_FALSE(q.try_get());
  CHECK_FALSE(q.try_peek());
}

TEST_CASE("a lifo_queue gives the last item first, a priority_queue the least") {
  lifo_queue<int> last;
  priority_queue<int> least;
  priority_queue<int, std::greater<>> greatest;
  for (int i : {3, 1, 2}) last.put(i), least.put(i), greatest.put(i);
  CHECK(last.peek() == 2);
  CHECK(least.peek() == 1);
  for (int i : {2, 1, 3}) CHECK(last.get() == i);
  for (int i : {1, 2, 3}) CHECK(least.get() == i);
  for (int i : {3, 2, 1}) CHECK(greatest.get() == i);
}

TEST_CASE("a getter parked on an empty queue wakes when an item is put") {
  queue<std::string> q;
  auto t = spawn([&] { return q.get(); });
  yield();
  CHECK_FALSE(t.ready());
  q.put("item");
  CHECK(q.empty());  // it belongs to the getter already
  CHECK(t.get() == "item");
}

TEST_CASE("getters are served in the order in which they came") {
  queue<int> q;
  std::vector<std::pair<int, int>> got;
  std::vector<task<void>> tasks;
  for (int i = 0; i < 3; i++) tasks.push_back(spawn([&, i] { got.emplace_back(i, q.get()); }));
  yield();
  for (int i = 0; i < 3; i++) q.put(10 + i);
  joinall(tasks);
  CHECK(got == std::vector<std::pair<int, int>>{{0, 10}, {1, 11}, {2, 12}});
}

TEST_CASE(
    "put waits while a queue is full, and putters are served in the order in which they came") {
  queue<int> q(1);
  CHECK(q.bound() == 1);
  q.put(0);
  CHECK(q.full());
  std::vector<task<void>> tasks;
  for (int i = 1; i < 4; i++) tasks.push_back(spawn([&, i] { q.put(i); }));
  yield();
  CHECK(q.size() == 1);
  CHECK_FALSE(q.try_put(9));
  for (int i = 0; i < 4; i++) CHECK(q.get() == i);
  joinall(tasks);
  CHECK_THROWS_AS(queue<int>(0), error);
}

TEST_CASE("get and peek time out with an empty optional, put with false and the item unchanged") {
  queue<std::unique_ptr<int>> q(1);
  CHECK_FALSE(q.get(1ms));
  q.put(std::make_unique<int>(1));
  auto two = std::make_unique<int>(2);
  CHECK_FALSE(q.put(std::move(two), 1ms));
  REQUIRE(two);
  CHECK(*two == 2);
  CHECK_FALSE(q.try_put(std::move(two)));
  CHECK(two);
  CHECK(**q.get(1h) == 1);
  CHECK(q.put(std::move(two), 1h));
  CHECK_FALSE(two);
  queue<int> n;
  CHECK_FALSE(n.peek(1ms));
  n.put(5);
  CHECK(*n.peek(1h) == 5);
}

TEST_CASE("a fiber that peeks at an empty queue sees the item that another gets") {
  queue<int> q;
  auto sees = spawn([&] { return q.peek(); });
  auto gets = spawn([&] { return q.get(); });
  yield();
  q.put(3);
  CHECK(sees.get() == 3);
  CHECK(gets.get() == 3);
  auto only_sees = spawn([&] { return q.peek(); });
  yield();
  q.put(4);
  CHECK(only_sees.get() == 4);
  CHECK(q.get() == 4);
}

TEST_CASE("an item for a getter that has been killed goes to the next, or back to the front") {
  queue<int> q;
  auto killed = spawn([&] { q.get(); });
  auto next = spawn([&] { return q.get(); });
  yield();
  killed.request_kill();
  q.put(1);
  CHECK(next.get() == 1);

  auto last = spawn([&] { q.get(); });
  yield();
  last.request_kill();
  q.put(2);
  q.put(3);
  last.join();
  CHECK(q.get() == 2);
  CHECK(q.get() == 3);
}

TEST_CASE("getters and putters that give up leave the others in their order") {
  queue<int> q(1);
  auto a = spawn([&] { return q.get(1ms); });
  auto b = spawn([&] { return q.get(); });
  CHECK_FALSE(a.get());
  q.put(1);
  CHECK(b.get() == 1);
  q.put(2);
  auto c = spawn([&] { q.put(3); });
  auto d = spawn([&] { q.put(4); });
  yield();
  c.kill();
  CHECK(q.get() == 2);
  CHECK(q.get() == 4);
  d.get();
}

TEST_CASE("after shutdown nothing can be put, and the stored items can still be got") {
  queue<int> q(1);
  q.put(1);
  auto putter = spawn([&] { q.put(2); });
  yield();
  q.shutdown();
  CHECK(q.is_shutdown());
  CHECK_THROWS_AS(putter.get(), queue_shutdown);
  CHECK_THROWS_AS(q.put(3), queue_shutdown);
  CHECK(q.get() == 1);
  CHECK_THROWS_AS(q.get(), queue_shutdown);
  CHECK_THROWS_AS(q.peek(), queue_shutdown);
  CHECK_FALSE(q.try_get());

  queue<int> empty;
  auto getter = spawn([&] { empty.get(); });
  yield();
  empty.shutdown();
  CHECK_THROWS_AS(getter.get(), queue_shutdown);

  queue<int> dropped;
  dropped.put(1);
  dropped.shutdown(true);
  CHECK_THROWS_AS(dropped.get(), queue_shutdown);
}

TEST_CASE("a loop over a queue ends at its shutdown") {
  queue<int> q(2);
  auto producer = spawn([&] {
    for (int i = 1; i <= 10; i++) q.put(i);
    q.shutdown();
  });
  int sum = 0;
  for (int i : q) sum += i;
  CHECK(sum == 55);
  producer.get();
}

TEST_CASE("a wait on a queue that no fiber can end throws loop_exit") {
  queue<int> q;
  CHECK_THROWS_AS(q.get(), loop_exit);
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("joinable_queue");

TEST_CASE("join waits until task_done was called for every item") {
  joinable_queue<int> q;
  q.join();
  int sum = 0;
  auto worker = spawn([&] {
    for (;;) {
      sum += q.get();
      yield();
      q.task_done();
    }
  });
  for (int i = 1; i <= 4; i++) q.put(i);
  CHECK(q.unfinished() == 4);
  q.join();
  CHECK(sum == 10);
  CHECK(q.join(1h));
  CHECK_THROWS_AS(q.task_done(), error);
  worker.kill();
}

TEST_CASE("join also waits for items of putters that had to wait") {
  joinable_queue<int> q(1);
  q.put(1);
  auto putter = spawn([&] { q.put(2); });
  yield();
  CHECK(q.unfinished() == 1);
  CHECK(q.get() == 1);
  putter.join();
  CHECK(q.unfinished() == 2);
  q.task_done();
  CHECK_FALSE(q.join(1ms));
  CHECK(q.get() == 2);
  q.task_done();
  CHECK(q.join(0ms));
}

TEST_CASE("items that shutdown drops count as done") {
  joinable_queue<int> q;
  q.put(1);
  CHECK_FALSE(q.join(1ms));
  auto t = spawn([&] { q.join(); });
  yield();
  q.shutdown(true);
  t.get();
  CHECK(q.unfinished() == 0);
}

TEST_SUITE_END();
