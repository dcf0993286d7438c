// The hub's timers, on a simulated clock.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <map>
#include <memory>
#include <random>
#include <vector>

#include "scheduler/timers.hpp"

using namespace tendril::core;

namespace {

constexpr nanoseconds us = 1000, ms = 1000 * us, s = 1000 * ms, day = 86400 * s;

// The timers, and a plain list of the same waits to compare with.
struct clockwork {
  struct waiting {
    nanoseconds at;
    bool precise;
    std::size_t number;  // the order of starting
  };
  std::unique_ptr<timers> all = std::make_unique<timers>();
  std::map<fiber*, waiting> waits;
  nanoseconds now = 5 * day + 123'456'789;
  std::size_t started = 0;

  void start(fiber& f, nanoseconds in, bool precise = false) {
    REQUIRE(all->start(&f, now + in, precise, now));
    waits[&f] = {now + in, precise, started++};
  }
  void cancel(fiber& f) {
    all->cancel(&f);
    CHECK(f.timer == 0);
    waits.erase(&f);
  }
  // Wakes all fibers that are due, and returns them in that order.
  std::vector<fiber*> run() {
    std::vector<fiber*> woken;
    all->run(now, [&](fiber* f) { woken.push_back(f); });
    nanoseconds last = 0;
    for (fiber* f : woken) {
      REQUIRE(waits.contains(f));
      CHECK(waits[f].at <= now);
      CHECK(last <= waits[f].at);
      last = waits[f].at;
      waits.erase(f);
    }
    CHECK(all->empty() == waits.empty());
    for (auto& [f, w] : waits) {
      REQUIRE(w.at > now);
      REQUIRE(all->next() <= (w.precise ? w.at : w.at + ms));
    }
    return woken;
  }
};

std::vector<std::unique_ptr<fiber>> some(int n) {
  std::vector<std::unique_ptr<fiber>> all;
  for (int i = 0; i < n; i++) all.push_back(std::make_unique<fiber>());
  return all;
}

}  // namespace

TEST_CASE("all fibers of a millisecond are woken together, at its end") {
  clockwork c;
  c.now = day;
  auto f = some(100);
  for (int i = 0; i < 100; i++) c.start(*f[std::size_t(i)], 20 * ms + (100 - i) * 10 * us);
  CHECK(c.all->next() == c.now + 21 * ms);
  c.now += 21 * ms;
  auto woken = c.run();
  REQUIRE(woken.size() == 100);
  for (std::size_t i = 0; i < 100; i++) CHECK(woken[i] == f[99 - i].get());
}

TEST_CASE("fibers with the same deadline are woken in the order of their waits") {
  clockwork c;
  auto f = some(1000);
  for (auto& one : f) c.start(*one, 3 * s);
  while (c.now < 5 * day + 4 * s && !c.waits.empty()) {
    c.now = c.all->next();
    auto woken = c.run();
    for (std::size_t i = 0; i < woken.size(); i++) CHECK(woken[i] == f[i].get());
  }
  CHECK(c.waits.empty());
}

TEST_CASE("short and precise waits end in time") {
  clockwork c;
  auto f = some(4);
  c.start(*f[0], 1 * s);
  c.start(*f[1], 990 * ms + 1, true);
  CHECK(c.all->next() == c.now + 990 * ms + 1);
  c.start(*f[2], 7 * ms + 1);
  CHECK(c.all->next() == c.now + 7 * ms + 1);
  c.start(*f[3], -1);
  CHECK(c.all->next() == c.now - 1);
  CHECK(c.run() == std::vector{f[3].get()});
}

TEST_CASE("fibers that are due are woken whenever the hub checks, in the order of the deadlines") {
  clockwork c;
  c.now = day;
  auto f = some(3);
  c.start(*f[0], 20 * ms + 200 * us);
  c.start(*f[1], 20 * ms + 300 * us, true);
  c.start(*f[2], 20 * ms + 100 * us);
  c.now += 20 * ms + 250 * us;
  CHECK(c.run() == std::vector{f[2].get(), f[0].get()});
  c.now += 50 * us;
  CHECK(c.run() == std::vector{f[1].get()});
}

TEST_CASE("a cancelled timer is not woken, also between its deadline and its turn") {
  clockwork c;
  c.now = day;
  auto f = some(3);
  for (int i = 0; i < 3; i++) c.start(*f[std::size_t(i)], 20 * ms + (i + 1) * 100 * us);
  c.now += 20 * ms + 100 * us;
  CHECK(c.run() == std::vector{f[0].get()});
  c.cancel(*f[1]);
  c.start(*f[0], 20 * ms);
  c.now += 1 * ms;
  CHECK(c.run() == std::vector{f[2].get()});
  c.cancel(*f[0]);
  CHECK(c.all->empty());
}

TEST_CASE("a timer that is due is woken although an earlier one that was due is cancelled") {
  clockwork c;
  c.now = day;
  auto f = some(3);
  c.start(*f[0], 20 * ms + 100 * us);
  c.start(*f[1], 20 * ms + 300 * us);
  c.start(*f[2], 20 * ms + 200 * us, true);
  c.now += 20 * ms + 50 * us;
  CHECK(c.run().empty());
  c.cancel(*f[0]);
  c.now += 200 * us;
  CHECK(c.run() == std::vector{f[2].get()});
}

TEST_CASE("deadlines of all lengths, cancelled and met at random, for years") {
  for (unsigned seed = 0; seed < 20; seed++) {
    CAPTURE(seed);
    std::minstd_rand random(seed);
    auto up_to = [&](nanoseconds n) { return nanoseconds(random()) * 0x7fffffff % n; };
    constexpr nanoseconds lengths[] = {100 * us, 5 * ms, 50 * ms,  1100 * ms,
                                       100 * s,  day,    40 * day, 400 * day};
    clockwork c;
    auto f = some(300);
    for (int step = 0; step < 3000; step++) {
      fiber& one = *f[random() % f.size()];
      if (one.timer) c.cancel(one);
      else c.start(one, up_to(lengths[random() % (1 + seed % 8)]), random() % 8 == 0);
      // Usually some time passes; sometimes the hub sleeps until its next check, or longer.
      if (unsigned what = unsigned(random() % 8); what == 0 && !c.waits.empty())
        c.now = std::max(c.now, c.all->next());
      else if (what == 1) c.now += up_to(lengths[random() % 4]);
      else if (what < 6) c.now += up_to(100 * us);
      else continue;
      REQUIRE(c.now < 200 * 365 * day);
      c.run();
    }
    while (!c.waits.empty()) {
      c.now = std::max(c.now, c.all->next());
      c.run();
    }
    CHECK(c.all->empty());
  }
}

TEST_CASE("time-outs that are nearly all cancelled keep no memory") {
  clockwork c;
  auto f = some(2);
  rusage before, after;
  getrusage(RUSAGE_SELF, &before);
  for (int i = 0; i < 3'000'000; i++) {
    c.all->start(f[0].get(), c.now + 30 * s, false, c.now);
    if (i % 1000 == 0) c.all->start(f[1].get(), c.now + 20 * s, false, c.now);
    c.all->cancel(f[0].get());
    c.now += 10 * us;
    if (i % 1000 == 999) {
      c.all->cancel(f[1].get());
      c.all->run(c.now, [](fiber*) { FAIL("nobody is due"); });
    }
  }
  getrusage(RUSAGE_SELF, &after);
  CHECK(after.ru_maxrss - before.ru_maxrss < 4096);
}

TEST_CASE("clear() removes all timers, and new ones can be started") {
  clockwork c;
  auto f = some(100);
  for (int i = 0; i < 100; i++) c.start(*f[std::size_t(i)], i * 20 * ms, i % 2 != 0);
  c.now += 700 * ms + 300 * us;
  c.run();
  c.all->clear();
  CHECK(c.all->empty());
  CHECK(c.all->next() == INT64_MAX);
  for (auto& one : f) one->timer = 0;
  c.waits.clear();
  c.start(*f[0], 10 * ms);
  c.now += 11 * ms;
  CHECK(c.run() == std::vector{f[0].get()});
}

TEST_CASE(
    "the hub does not check while no timer is due: a far deadline takes a few checks, not one a "
    "millisecond") {
  for (nanoseconds ahead : {2 * ms, 300 * ms, 10 * s, 3600 * s, 3 * day, 400 * day}) {
    clockwork c;
    auto f = some(1);
    c.start(*f[0], ahead);
    int looks = 0;
    while (!c.waits.empty() && looks < 1000) {
      c.now = c.all->next();
      c.run();
      looks++;
    }
    CHECK(c.waits.empty());
    CHECK(looks <= 64);  // a deadline beyond the last level is moved once a round
  }
}
