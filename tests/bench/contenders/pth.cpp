// GNU Pth. It waits by select(2), so it cannot hold more than 1,000 connections.
#include <pth.h>

#include "bench.hpp"

using namespace bench;

namespace {

work* the;
long each, done;

pth_t start(void* (*f)(void*), void* p = nullptr, bool joinable = true) {
  static pth_attr_t a = [] {
    pth_init();
    return pth_attr_new();
  }();
  pth_attr_set(a, PTH_ATTR_STACK_SIZE, 64 * 1024);
  pth_attr_set(a, PTH_ATTR_JOINABLE, joinable ? TRUE : FALSE);
  pth_t t = pth_spawn(a, f, p);
  if (!t) fail("pth_spawn");
  return t;
}

void yield(work& w) {
  the = &w, each = w.ops / w.n, done = 0;
  std::vector<pth_t> all;
  for (long i = 0; i < w.n; i++) {
    all.push_back(start([](void*) -> void* {
      pth_yield(nullptr);  // until all have begun
      if (done == 0) the->begin();
      for (long k = 0; k < each; k++) pth_yield(nullptr), done++;
      if (done == the->n * each) the->end();
      return nullptr;
    }));
  }
  for (auto t : all) pth_join(t, nullptr);
  w.ops = done;
}

void hand_over(work& w) {
  static pth_mutex_t lock = PTH_MUTEX_INIT;
  static pth_cond_t turned = PTH_COND_INIT;
  static long turn;
  the = &w, turn = 0;
  auto player = [](void* p) -> void* {
    long mine = reinterpret_cast<long>(p);
    pth_mutex_acquire(&lock, FALSE, nullptr);
    while (turn < the->ops) {
      if (turn % 2 == mine) turn++, pth_cond_notify(&turned, FALSE);
      else pth_cond_await(&turned, &lock, nullptr);
    }
    pth_mutex_release(&lock);
    return nullptr;
  };
  w.begin();
  pth_t a = start(player, reinterpret_cast<void*>(0)),
        b = start(player, reinterpret_cast<void*>(1));
  pth_join(a, nullptr), pth_join(b, nullptr);
  w.end();
  check(turn == w.ops, "each was handed over");
}

void spawn(work& w) {
  std::vector<pth_t> batch(std::size_t(w.n));
  long sum = 0, i = 0;
  w.begin();
  while (i < w.ops) {
    for (auto& t : batch) t = start([](void* p) { return p; }, reinterpret_cast<void*>(i++));
    for (auto& t : batch) {
      void* result;
      pth_join(t, &result);
      sum += reinterpret_cast<long>(result);
    }
  }
  w.end();
  w.ops = i;
  check(sum == i * (i - 1) / 2, "all results came");
}

void echo(work&) {
  pth_init();
  int listener = listen_on_loopback();
  for (;;) {
    int fd = pth_accept(listener, nullptr, nullptr);
    if (fd < 0) fail("pth_accept");
    no_delay(fd);
    start(
        [](void* p) -> void* {
          int fd = int(reinterpret_cast<long>(p));
          char buffer[4096];
          for (ssize_t n; (n = pth_read(fd, buffer, sizeof buffer)) > 0;) {
            if (pth_write(fd, buffer, std::size_t(n)) != n) break;
          }
          close(fd);
          return nullptr;
        },
        reinterpret_cast<void*>(long(fd)), false);
  }
}

}  // namespace

int main(int argc, char** argv) {
  return contend(argc, argv,
                 {{"yield", yield},
                  {"hand_over", hand_over},
                  {"spawn", spawn},
                  {"echo", echo, question::once}});
}
