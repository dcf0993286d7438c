// A pool of kernel threads, as in Python's concurrent.futures: map, submit, as_completed,
// callbacks, and shutdown, which interrupts no call: it waits for the submitted calls, or lets the
// caller go on.

#include <array>
#include <cstdio>
#include <string>
#include <system_error>
#include <tendril/as_completed.hpp>
#include <tendril/event.hpp>
#include <tendril/thread_pool_executor.hpp>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

namespace {

// Blocks its kernel thread, as a computation would.
int task(int n) {
  std::this_thread::sleep_for(n * 10ms);
  return n * n;
}

void done(int n, const tendril::future<int>& f) {
  if (f.cancelled()) std::printf("%d: cancelled\n", n);
  else if (f.exception()) std::printf("%d: error returned\n", n);
  else std::printf("%d: value returned: %d\n", n, f.get());
}

}  // namespace

int main() {
  tendril::thread_pool_executor pool(2);
  std::array numbers{5, 4, 3, 2, 1};

  std::printf("map, in order:");
  for (int result : pool.map(task, numbers)) std::printf(" %d", result);
  std::puts("");

  tendril::future<int> f = pool.submit(task, 6);
  std::printf("submit: %d\n", f.get());

  std::vector<tendril::future<int>> futures;
  for (int n : numbers) futures.push_back(pool.submit(task, n));
  int sum = 0;
  std::printf("as completed, in any order:");
  for (auto& completed : tendril::as_completed(futures)) {
    std::printf(" %d", completed.get());
    sum += completed.get();
  }
  std::printf(", together %d\n", sum);

  // Past its time-out, as_completed() reports how many futures are unfinished.
  tendril::event not_yet;
  std::vector one_waits{pool.submit(task, 1), pool.submit([&not_yet] {
                          not_yet.wait();
                          return 0;
                        })};
  one_waits[0].get();
  try {
    for (auto& completed : tendril::as_completed(one_waits, 10ms))
      std::printf("in time: %d\n", completed.get());
  } catch (const std::system_error& e) {
    std::string what = e.what();  // the text, a colon, and the error's own message
    std::printf("TimeoutError: %s\n", what.substr(0, what.find(':')).c_str());
  }
  not_yet.set();

  auto called_back = pool.submit(task, 7);
  called_back.add_done_callback([](auto& me) { done(7, me); });
  auto failing = pool.submit([]() -> int { throw std::runtime_error("the value 8 is no good"); });
  try {
    failing.get();
  } catch (const std::runtime_error& e) {
    std::printf("main: saw error \"%s\" when accessing result\n", e.what());
  }

  // shutdown() waits for the submitted calls; so does the end of a pool's scope (Python: of a
  // `with` block).
  tendril::future<int> pending = pool.submit(task, 9);
  pool.shutdown();
  std::printf("shutdown: pending future %s\n", pending.done() ? "done" : "not done");
  try {
    pool.submit(task, 10);
  } catch (const tendril::error& e) {
    std::printf("after shutdown: %s\n", e.what());
  }

  // shutdown(false), in Python shutdown(wait=False), returns at once. The pending calls go on,
  // including those that have not begun, and the threads end after them.
  tendril::thread_pool_executor one(1);
  tendril::event go_on;
  std::vector<tendril::future<int>> left{one.submit([&go_on] {
                                           go_on.wait();
                                           return 11;
                                         }),
                                         one.submit(task, 12)};
  one.shutdown(false);
  for (const auto& l : left)
    std::printf("shutdown without waiting: pending future %s\n", l.done() ? "done" : "not done");
  go_on.set();
  for (const auto& l : left) std::printf("its result: %d\n", l.get());
}
