// Tendril.
#include <tendril/tendril.hpp>

#include <random>

#include "bench.hpp"

using namespace bench;
using namespace std::chrono_literals;

namespace {

// The switch of detail/core.hpp, without the typed interface.
void core_switch(work& w) {
  namespace core = tendril::core;
  static core::fiber* main;
  main = core::fiber_current();
  static const char family = 0;
  static constexpr auto switch_to = [](core::fiber* to) {
    core::fiber_head& self = core::head(core::current);
    check(core::can_switch_fast(self, core::head(to), &family), "nothing to look after");
    core::switch_result a = core::switch_fast(self, core::head(to), nullptr, &family);
    core::arrived_fast(self, a.context, a.from);
  };
  static constexpr core::body ops{[](core::fiber*, core::message*) noexcept -> core::message* {
                                    core::reap();
                                    core::message m;
                                    core::switch_result a = core::fiber_exchange(main, &m, &family);
                                    core::fiber_arrived(a.context, a.from, &m);
                                    for (;;) switch_to(main);
                                  },
                                  [](void*) noexcept {}};
  core::fiber* f = core::fiber_new(0, ops, {});
  core::message m;
  core::switch_result a = core::fiber_exchange(f, &m, &family);
  core::fiber_arrived(a.context, a.from, &m);
  w.begin();
  for (long i = 0; i < w.ops; i += 2) switch_to(f);
  w.end();
}

// greenlet's switch, values both ways.
void public_switch(work& w) {
  tendril::fiber<long> adder([parent = tendril::fiber<long>::current()](long x) -> long {
    for (;;) x = parent.switch_to(x + 1);
  });
  long sum = 0;
  w.begin();
  for (long i = 0; i < w.ops; i += 2) sum = adder.switch_to(sum);
  w.end();
  check(sum == (w.ops + 1) / 2, "each switch adds one");
}

void yield(work& w) {
  long each = w.ops / w.n, done = 0;
  std::vector<tendril::task<void>> all;
  for (long i = 0; i < w.n; i++) {
    all.push_back(tendril::spawn([&] {
      tendril::yield();  // until all have begun
      if (done == 0) w.begin();
      for (long k = 0; k < each; k++) tendril::yield(), done++;
      if (done == w.n * each) w.end();
    }));
  }
  tendril::joinall(all);
  w.ops = done;
  check(done == w.n * each, "everybody had their turns");
}

void hand_over(work& w) {
  tendril::semaphore ping(0), pong(0);
  long handed = 0;
  auto other = tendril::spawn([&] {
    for (long i = 0; i < w.ops; i += 2) ping.acquire(), handed++, pong.release();
  });
  w.begin();
  for (long i = 0; i < w.ops; i += 2) ping.release(), pong.acquire();
  w.end();
  check(handed == (w.ops + 1) / 2, "each was handed over");
}

void hand_over_channel(work& w) {
  tendril::channel<long> ping, pong;
  auto other = tendril::spawn([&] {
    for (long i = 0; i < w.ops; i += 2) pong.send(*ping.receive() + 1);
  });
  long sum = 0;
  w.begin();
  for (long i = 0; i < w.ops; i += 2) ping.send(sum), sum = *pong.receive();
  w.end();
  check(sum == (w.ops + 1) / 2, "each was handed over");
}

void spawn(work& w) {
  std::vector<tendril::task<long>> batch(std::size_t(w.n));
  long sum = 0, i = 0;
  w.begin();
  if (w.n == 1) {
    for (; i < w.ops; i++) sum += tendril::spawn([i] { return i; }).get();
  } else {
    while (i < w.ops) {
      for (auto& t : batch) t = tendril::spawn([i = i++] { return i; });
      for (auto& t : batch) sum += t.get();
    }
  }
  w.end();
  w.ops = i;
  check(sum == i * (i - 1) / 2, "all results came");
}

// The sum of n numbers, in a tree of calls whose nodes have ten children, on two kernel threads.
long sum_of_tree(tendril::fiber_executor& cores, long first, long n) {
  if (n == 1) return first;
  std::vector<tendril::future<long>> children;
  children.reserve(10);
  for (long i = 0; i < 10; i++)
    children.push_back(cores.submit(sum_of_tree, std::ref(cores), first + i * (n / 10), n / 10));
  long sum = 0;
  for (auto& c : children) sum += c.get();
  return sum;
}
void tree(work& w) {
  tendril::fiber_executor cores(2);
  long done = 0;
  w.begin();
  for (; done < w.ops; done += w.n) {
    long sum = cores.submit(sum_of_tree, std::ref(cores), 0, w.n).get();
    check(sum == w.n * (w.n - 1) / 2, "all results came");
  }
  w.end();
  w.ops = done;
}

void memory_parked(work& w) {
  long parked = 0;
  memory before;
  for (long i = 0; i < w.n; i++) {
    tendril::spawn([&] {
      parked++;
      tendril::sleep(1000s);
    });
  }
  while (parked < w.n) tendril::yield();
  before.report(w);
}

void echo(work&) {
  int listener = listen_on_loopback();
  for (;;) {
    int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) fail("accept");
    no_delay(fd);
    tendril::spawn([fd] {
      char buffer[4096];
      for (ssize_t n; (n = recv(fd, buffer, sizeof buffer, 0)) > 0;) {
        if (send(fd, buffer, std::size_t(n), 0) != n) break;
      }
      close(fd);
    });
  }
}

void fetch(work& w) {
  std::vector<tendril::task<std::size_t>> all;
  w.begin();
  for (long i = 0; i < w.n; i++) {
    all.push_back(tendril::spawn([&] {
      sockaddr_in to = loopback(w.argument);
      int fd = socket(AF_INET, SOCK_STREAM, 0);
      if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) < 0) fail("connect");
      if (send(fd, fetch_request, sizeof fetch_request - 1, 0) < 0) fail("send");
      char buffer[4096];
      std::size_t got = 0;
      for (ssize_t n; (n = recv(fd, buffer, sizeof buffer, 0)) > 0;) got += std::size_t(n);
      close(fd);
      return got;
    }));
  }
  for (auto& t : all) check(t.get() == fetch_answer, "the whole answer");
  w.end();
  w.ops = w.n;
}

void sleep(work& w) {
  static histogram late;
  static bool over = false;
  static long wakes = 0;
  std::minstd_rand random(1);
  for (long i = 0; i < w.n; i++) {
    tendril::spawn([&] {
      while (!over) {
        auto until = tendril::clock::now() + std::chrono::microseconds(random() % 1'000'000);
        tendril::sleep_until(until);
        late.add(std::chrono::duration<double>(tendril::clock::now() - until).count());
        wakes++;
      }
    });
  }
  tendril::sleep(1s);
  late = {};
  w.begin();
  wakes = 0;
  tendril::sleep(std::chrono::duration<double>(w.length));
  w.ops = wakes;
  w.end();
  w.report_lateness(late);
}

}  // namespace

int main(int argc, char** argv) {
  return contend(argc, argv,
                 {{"core_switch", core_switch},
                  {"switch", public_switch},
                  {"yield", yield},
                  {"hand_over", hand_over},
                  {"hand_over_channel", hand_over_channel},
                  {"spawn", spawn},
                  {"tree", tree},
                  {"memory", memory_parked, question::once},
                  {"echo", echo, question::once},
                  {"fetch", fetch, question::once},
                  {"sleep", sleep, question::once}});
}
