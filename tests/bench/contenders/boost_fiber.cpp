// Boost.Fiber, with its default round-robin scheduler; the tree with work stealing.
#include <boost/fiber/all.hpp>

#include <random>
#include <thread>

#include "bench.hpp"

using namespace bench;
using boost::fibers::fiber;

namespace {

boost::fibers::fixedsize_stack small() { return boost::fibers::fixedsize_stack(64 * 1024); }

void yield(work& w) {
  long each = w.ops / w.n, done = 0;
  std::vector<fiber> all;
  for (long i = 0; i < w.n; i++) {
    all.emplace_back(std::allocator_arg, small(), [&] {
      boost::this_fiber::yield();  // until all have begun
      if (done == 0) w.begin();
      for (long k = 0; k < each; k++) boost::this_fiber::yield(), done++;
      if (done == w.n * each) w.end();
    });
  }
  for (fiber& f : all) f.join();
  w.ops = done;
  check(done == w.n * each, "everybody had their turns");
}

void hand_over(work& w) {
  boost::fibers::unbuffered_channel<long> ping, pong;
  fiber other(std::allocator_arg, small(), [&] {
    for (long x : ping) pong.push(x + 1);
    pong.close();
  });
  long sum = 0;
  w.begin();
  for (long i = 0; i < w.ops; i += 2) {
    ping.push(sum);
    pong.pop(sum);
  }
  w.end();
  ping.close();
  other.join();
  check(sum == (w.ops + 1) / 2, "each was handed over");
}

void spawn(work& w) {
  std::vector<boost::fibers::future<long>> batch(std::size_t(w.n));
  long sum = 0, i = 0;
  boost::fibers::pooled_fixedsize_stack pool(64 * 1024);
  w.begin();
  while (i < w.ops) {
    for (auto& r : batch) {
      boost::fibers::packaged_task<long()> t([i = i++] { return i; });
      r = t.get_future();
      fiber(std::allocator_arg, pool, std::move(t)).detach();
    }
    for (auto& r : batch) sum += r.get();
  }
  w.end();
  w.ops = i;
  check(sum == i * (i - 1) / 2, "all results came");
}

// Each child runs at once, and its parent may be stolen: the other way round, all of a level would
// exist at once.
long sum_of_tree(long first, long n) {
  if (n == 1) return first;
  std::vector<boost::fibers::future<long>> children;
  children.reserve(10);
  for (long i = 0; i < 10; i++) {
    boost::fibers::packaged_task<long()> t(
        [first, n, i] { return sum_of_tree(first + i * (n / 10), n / 10); });
    children.push_back(t.get_future());
    fiber(boost::fibers::launch::dispatch, std::allocator_arg,
          boost::fibers::fixedsize_stack(16 * 1024), std::move(t))
        .detach();
  }
  long sum = 0;
  for (auto& c : children) sum += c.get();
  return sum;
}
void tree(work& w) {
  // The process can have two such schedulers once, so this is one run.
  using boost::fibers::algo::work_stealing;
  boost::fibers::mutex lock;
  boost::fibers::condition_variable end;
  bool over = false;
  long done = 0;
  std::thread first([&] {
    boost::fibers::use_scheduling_algorithm<work_stealing>(2, true);
    w.begin();
    for (; seconds() - w.wall < w.length; done += w.n) {
      boost::fibers::packaged_task<long()> t([&] { return sum_of_tree(0, w.n); });
      auto sum = t.get_future();
      fiber(std::move(t)).detach();
      check(sum.get() == w.n * (w.n - 1) / 2, "all results came");
    }
    w.end();
    std::unique_lock hold(lock);
    over = true;
    end.notify_all();
  });
  std::thread second([&] {
    boost::fibers::use_scheduling_algorithm<work_stealing>(2, true);
    std::unique_lock hold(lock);
    end.wait(hold, [&] { return over; });
  });
  first.join();
  second.join();
  w.ops = done;
}

void memory_parked(work& w) {
  boost::fibers::mutex lock;
  boost::fibers::condition_variable never;
  long parked = 0;
  memory before;
  for (long i = 0; i < w.n; i++) {
    fiber(std::allocator_arg, small(), [&] {
      std::unique_lock hold(lock);
      parked++;
      never.wait(hold);
    }).detach();
  }
  while (parked < w.n) boost::this_fiber::yield();
  before.report(w);
}

void sleep(work& w) {
  static histogram late;
  static long wakes = 0;
  std::minstd_rand random(1);
  using clock = std::chrono::steady_clock;
  for (long i = 0; i < w.n; i++) {
    fiber(std::allocator_arg, small(), [&] {
      for (;;) {
        auto until = clock::now() + std::chrono::microseconds(random() % 1'000'000);
        boost::this_fiber::sleep_until(until);
        late.add(std::chrono::duration<double>(clock::now() - until).count());
        wakes++;
      }
    }).detach();
  }
  boost::this_fiber::sleep_for(std::chrono::seconds(1));
  late = {};
  w.begin();
  wakes = 0;
  boost::this_fiber::sleep_for(std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::duration<double>(w.length)));
  w.ops = wakes;
  w.end();
  w.report_lateness(late);
}

}  // namespace

int main(int argc, char** argv) {
  return contend(argc, argv,
                 {{"yield", yield},
                  {"hand_over", hand_over},
                  {"spawn", spawn},
                  {"tree", tree, question::once},
                  {"memory", memory_parked, question::once},
                  {"sleep", sleep, question::once}});
}
