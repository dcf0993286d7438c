// Groups and pools: how many tasks run at once, and the order of the results.
#include <doctest/doctest.h>
#include <tendril/event.hpp>
#include <tendril/pool.hpp>

#include <algorithm>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <vector>

using namespace tendril;
using namespace std::chrono_literals;

namespace {

std::vector<int> up_to(int n) {
  std::vector<int> v(static_cast<std::size_t>(n));
  std::iota(v.begin(), v.end(), 0);
  return v;
}

// Later elements end earlier.
int slow_square(int x) {
  for (int i = x; i < 10; i++) yield();
  return x * x;
}

}  // namespace

TEST_SUITE_BEGIN("group");

TEST_CASE("a group holds its tasks until they end, and join waits for that") {
  group g;
  g.join();
  auto a = g.spawn([] { sleep(1ms); });
  auto b = spawn([] {});
  g.add(b);
  g.add(b);
  CHECK(g.size() == 2);
  CHECK(g.contains(a));
  g.discard(b);
  CHECK_FALSE(g.contains(b));
  CHECK_FALSE(g.join(0s));
  g.join();
  CHECK(g.empty());
  CHECK(a.ready());
  CHECK(g.join(1h));
  g.add(a);  // has ended already
  CHECK(g.empty());
  CHECK_FALSE(g.full());
  b.join();
}

TEST_CASE("kill ends all tasks of a group, and the group is empty then") {
  group g;
  for (int i = 0; i < 3; i++) g.spawn([] { sleep(1h); });
  yield();
  g.spawn([&] { FAIL("never begins"); });
  g.kill();
  CHECK(g.empty());
  g.spawn([] {
    try {
      sleep(1h);
    } catch (const fiber_exit&) {}
    sleep(1h);
  });
  yield();
  CHECK_FALSE(g.kill(0s));
  CHECK(g.kill(1h));
}

TEST_CASE("kill ends tasks, too, that others add while they end") {
  group g;
  int ended = 0;
  g.spawn([&] {
    try {
      sleep(1h);
    } catch (const fiber_exit&) {
      g.spawn([&] {
        struct counts {
          int& n;
          ~counts() { n++; }
        } last{ended};
        sleep(1h);
      });
      yield();  // which begins
      throw;
    }
  });
  yield();
  g.kill();
  CHECK(g.empty());
  CHECK(ended == 1);
}

TEST_CASE("join_and_raise throws no error from before the group was last empty") {
  group g;
  g.spawn([] { throw std::runtime_error("earlier"); });
  g.join();
  g.spawn([] {});
  CHECK_NOTHROW(g.join_and_raise());
  g.spawn([] { throw std::runtime_error("bad"); });
  CHECK_THROWS_WITH(g.join_and_raise(), "bad");
  g.spawn([] {});
  CHECK_NOTHROW(g.join_and_raise());
}

TEST_CASE("join_and_raise throws the first error of the group") {
  group g;
  g.spawn([] { throw std::runtime_error("bad"); });
  g.spawn([] {});
  CHECK_THROWS_WITH(g.join_and_raise(), "bad");
  g.join_and_raise();
  for (const char* what : {"first", "second"}) g.spawn([=] { throw std::runtime_error(what); });
  CHECK_THROWS_WITH(g.join_and_raise(), "first");
}

TEST_CASE("destroying a group does not affect its tasks") {
  task<int> t;
  {
    group g;
    t = g.spawn([] { return yield(), 3; });
  }
  CHECK(t.get() == 3);
}

TEST_CASE(
    "map returns all results in the order of the range, and throws the first error in that order") {
  group g;
  CHECK(g.map(slow_square, up_to(10)) == std::vector{0, 1, 4, 9, 16, 25, 36, 49, 64, 81});
  int sum = 0;
  g.map([&](int x) { sum += x; }, up_to(4));
  CHECK(sum == 6);
  CHECK_THROWS_WITH(g.map(
                        [](int x) {
                          if (x > 1) throw std::runtime_error(std::to_string(x));
                          return x;
                        },
                        up_to(4)),
                    "2");
  CHECK(g.map(slow_square, std::vector<int>{}).empty());
}

TEST_CASE(
    "imap returns results in the order of the range, imap_unordered in the order of completion") {
  group g;
  std::vector<int> ordered, unordered;
  for (int x : g.imap(slow_square, up_to(5))) ordered.push_back(x);
  CHECK(ordered == std::vector{0, 1, 4, 9, 16});
  for (int x : g.imap_unordered(slow_square, up_to(5))) unordered.push_back(x);
  CHECK(unordered == std::vector{16, 9, 4, 1, 0});
}

TEST_CASE("imap throws an error in its place, and the iteration may go on") {
  group g;
  auto results = g.imap(
      [](int x) {
        if (x == 1) throw std::runtime_error("one");
        return x;
      },
      up_to(3));
  CHECK(*results.next() == 0);
  CHECK_THROWS_WITH(results.next(), "one");
  CHECK(*results.next() == 2);
  CHECK_FALSE(results.next());
}

TEST_CASE(
    "imap runs ahead of its reader only up to its limit, and stops when its results are "
    "destroyed") {
  group g;
  int begun = 0;
  {
    auto results = g.imap([&](int x) { return begun++, x; }, up_to(100), 2);
    for (int i = 0; i < 10; i++) yield();
    CHECK(begun == 2);
    CHECK(*results.next() == 0);
    for (int i = 0; i < 10; i++) yield();
    CHECK(begun == 3);
  }
  g.join();
  CHECK(begun == 3);
}

TEST_CASE("apply returns the result, apply_async a task of it") {
  group g;
  auto p =
      g.apply([](std::unique_ptr<int> q, int x) { return *q + x; }, std::make_unique<int>(1), 2);
  CHECK(p == 3);
  CHECK(g.apply_async([](int x) { return x; }, 4).get() == 4);
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("pool");

TEST_CASE("never more tasks than its size run at once, and spawn waits for a free place") {
  pool p(3);
  int now = 0, most = 0;
  p.map(
      [&](int x) {
        most = std::max(most, ++now);
        yield();
        now--;
        return x;
      },
      up_to(20));
  CHECK(most == 3);
  CHECK(p.free_count() == 3);
  CHECK(p.limit() == 3);
  CHECK_THROWS_AS(pool(0), error);
}

TEST_CASE("a full pool reports that, and a place is free when a task ends or is discarded") {
  pool p(1);
  event go;
  auto t = p.spawn([&] { go.wait(); });
  CHECK(p.full());
  CHECK_FALSE(p.wait_available(1ms));
  auto waits = spawn([&] { p.spawn([] {}); });
  yield();
  CHECK_FALSE(waits.ready());
  go.set();
  waits.join();
  p.join();
  CHECK(p.free_count() == 1);
  p.wait_available();
  auto u = p.spawn([] { sleep(1h); });
  p.discard(u);
  CHECK_FALSE(p.full());
  u.kill();
  CHECK(p.free_count() == 1);
}

TEST_CASE("apply_async never waits, apply in a task of the pool itself does not wait for a place") {
  pool p(1);
  event go;
  p.spawn([&] { go.wait(); });
  auto later = p.apply_async([](int x) { return x; }, 5);
  CHECK_FALSE(later.ready());
  go.set();
  CHECK(later.get() == 5);
  CHECK(p.apply([&] { return p.apply([] { return 6; }); }) == 6);
}

TEST_CASE(
    "a task that is killed before it begins gives its place back; so does a spawn that is killed") {
  pool p(1);
  p.spawn([] {}).kill();
  CHECK(p.free_count() == 1);
  auto t = p.spawn([] { sleep(1h); });
  auto waits = spawn([&] { p.spawn([] {}); });
  yield();
  waits.kill();
  t.kill();
  CHECK(p.free_count() == 1);
}

TEST_CASE("imap over a pool keeps to its size") {
  pool p(2);
  std::vector<int> all;
  for (int x : p.imap_unordered(slow_square, up_to(10))) all.push_back(x);
  std::ranges::sort(all);
  CHECK(all == std::vector{0, 1, 4, 9, 16, 25, 36, 49, 64, 81});
}

TEST_SUITE_END();
