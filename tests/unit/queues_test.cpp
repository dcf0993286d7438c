// The hub's queues, each on its own: the runnable fibers, and the fibers that other kernel threads
// wake.
#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "scheduler/remote_queue.hpp"
#include "scheduler/run_queue.hpp"

using namespace tendril::core;

namespace {

using fibers = std::vector<std::unique_ptr<fiber>>;
fibers some(std::size_t n) {
  fibers all;
  for (std::size_t i = 0; i < n; i++) all.push_back(std::make_unique<fiber>());
  return all;
}

// As unpark() does.
void wake_in(remote_queue& remote, fiber* f) {
  if (remote_queue::claim(f)) remote.push(f);
}

std::vector<fiber*> drain(remote_queue& remote) {
  std::vector<fiber*> woken;
  remote.drain([&](fiber* f) { woken.push_back(f); });
  return woken;
}

}  // namespace

TEST_SUITE_BEGIN("run queue");

TEST_CASE("fibers run in the order in which they were made ready") {
  fibers f = some(100);
  run_queue ready;
  REQUIRE(ready.reserve(f.size()));
  for (auto& one : f) ready.push(one.get());
  for (auto& one : f) CHECK(ready.pop() == one.get());
  CHECK(ready.empty());
}

TEST_CASE("the order is kept when the queue wraps around, grows, or moves a fiber to the front") {
  fibers f = some(200);
  run_queue ready;
  std::vector<fiber*> model;
  std::mt19937 random(1);
  REQUIRE(ready.reserve(3));
  std::size_t fresh = 0;
  std::vector<fiber*> idle;
  for (int step = 0; step < 20'000; step++) {
    unsigned what = random() % 16;
    if (what < 8) {
      fiber* next = !idle.empty() ? idle.back() : fresh < f.size() ? f[fresh++].get() : nullptr;
      if (!next) continue;
      if (!idle.empty()) idle.pop_back();
      REQUIRE(ready.reserve(model.size() + 1));
      CHECK(ready.room() >= model.size() + 1);
      ready.push(next, what == 0);
      model.push_back(next);
    } else if (what == 8 && !model.empty()) {
      std::size_t at = random() % model.size();
      fiber* first = model[at];
      ready.promote(first);
      model.erase(model.begin() + long(at));
      model.insert(model.begin(), first);
    } else if (!model.empty()) {
      REQUIRE(ready.pop() == model.front());
      idle.push_back(model.front());
      model.erase(model.begin());
    }
    REQUIRE(ready.empty() == model.empty());
  }
}

TEST_CASE("moving a fiber that is not in the queue to the front changes nothing") {
  fibers f = some(3);
  run_queue ready;
  REQUIRE(ready.reserve(3));
  ready.push(f[0].get());
  ready.push(f[1].get());
  ready.promote(f[2].get());
  CHECK(ready.pop() == f[0].get());
  CHECK(ready.pop() == f[1].get());
  CHECK(ready.empty());
}

TEST_CASE("the newest fibers can be taken out, and the others keep their order") {
  fibers f = some(100);
  run_queue ready;
  std::vector<fiber*> model;
  std::mt19937 random(2);
  REQUIRE(ready.reserve(40));
  std::size_t next = 0;
  for (int step = 0; step < 5'000; step++) {
    if (model.size() < 40 && random() % 3) {
      fiber* one = f[next++ % f.size()].get();
      if (std::find(model.begin(), model.end(), one) != model.end()) continue;
      ready.push(one);
      model.push_back(one);
    } else if (random() % 2 && !model.empty()) {
      CHECK(ready.pop() == model.front());
      model.erase(model.begin());
    } else {
      // some of those that stand behind the first few
      std::vector<fiber*> asked, wanted(model.rbegin(), model.rend());
      std::size_t most = random() % 4, taken = 0;
      unsigned choice = random();
      auto takes = [&](fiber* one) {
        return taken < most && (reinterpret_cast<std::uintptr_t>(one) / 64 + choice) % 3 == 0;
      };
      ready.take_newest([&](fiber* one) {
        asked.push_back(one);
        bool yes = takes(one);
        taken += yes;
        return yes;
      });
      CHECK(asked == wanted);
      taken = 0;
      for (std::size_t i = model.size(); i-- > 0;) {
        if (!takes(model[i])) continue;
        taken++;
        model.erase(model.begin() + long(i));
      }
    }
    REQUIRE(ready.size() == model.size());
    REQUIRE(ready.empty() == model.empty());
  }
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("remote queue");

TEST_CASE("fibers that another kernel thread wakes run in the order of the wake-ups") {
  fibers f = some(50);
  remote_queue remote;
  CHECK(remote.empty());
  for (auto& one : f) wake_in(remote, one.get());
  CHECK_FALSE(remote.empty());
  auto woken = drain(remote);
  CHECK(remote.empty());
  REQUIRE(woken.size() == f.size());
  for (std::size_t i = 0; i < f.size(); i++) CHECK(woken[i] == f[i].get());
}

TEST_CASE(
    "a fiber that is woken twice before the queue is read is in it once, and can be woken again") {
  fibers f = some(2);
  remote_queue remote;
  wake_in(remote, f[0].get());
  wake_in(remote, f[1].get());
  wake_in(remote, f[0].get());
  CHECK(drain(remote) == std::vector{f[0].get(), f[1].get()});
  wake_in(remote, f[0].get());
  CHECK(drain(remote) == std::vector{f[0].get()});
}

TEST_CASE("a fiber that somebody has claimed is not claimed again before the queue is read") {
  fibers f = some(1);
  remote_queue remote;
  CHECK(remote_queue::claim(f[0].get()));
  CHECK_FALSE(remote_queue::claim(f[0].get()));
  remote.push(f[0].get());
  CHECK_FALSE(remote_queue::claim(f[0].get()));
  drain(remote);
  CHECK(remote_queue::claim(f[0].get()));
}

TEST_CASE("a fiber in the queue is kept alive, and released when it has been woken") {
  fibers f = some(1);
  remote_queue remote;
  wake_in(remote, f[0].get());
  CHECK(f[0]->refs == 2);
  remote.drain([&](fiber* one) { CHECK(one->refs == 2); });
  CHECK(f[0]->refs == 1);
}

TEST_CASE("a fiber may be woken again by its own wake-up") {
  fibers f = some(1);
  remote_queue remote;
  wake_in(remote, f[0].get());
  int woken = 0;
  remote.drain([&](fiber* one) {
    if (++woken == 1) wake_in(remote, one);
  });
  CHECK(woken == 1);
  CHECK(drain(remote).size() == 1);
}

TEST_CASE("no entry of several kernel threads is lost, and each thread's order is kept") {
  constexpr std::size_t threads = 4, each = 2000;
  fibers f = some(threads * each);
  remote_queue remote;
  std::atomic<std::size_t> finished{0};
  std::vector<std::thread> all;
  for (std::size_t t = 0; t < threads; t++) {
    all.emplace_back([&, t] {
      for (std::size_t i = 0; i < each; i++) wake_in(remote, f[t * each + i].get());
      finished++;
    });
  }
  std::vector<fiber*> woken;
  for (bool last = false; !last;) {
    last = finished == threads;
    remote.drain([&](fiber* one) { woken.push_back(one); });
  }
  for (auto& t : all) t.join();
  REQUIRE(woken.size() == f.size());
  std::vector<std::size_t> next(threads, 0);
  for (fiber* one : woken) {
    auto at =
        std::find_if(f.begin(), f.end(), [&](auto& candidate) { return candidate.get() == one; });
    std::size_t number = std::size_t(at - f.begin()), t = number / each;
    REQUIRE(number % each == next[t]);
    next[t]++;
  }
}

TEST_SUITE_END();
