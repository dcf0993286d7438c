// State Threads.
#include <st.h>

#include <random>

#include "bench.hpp"

using namespace bench;

namespace {

work* the;
long each, done;

void yield(work& w) {
  st_init();
  the = &w, each = w.ops / w.n, done = 0;
  std::vector<st_thread_t> all;
  for (long i = 0; i < w.n; i++) {
    all.push_back(st_thread_create(
        [](void*) -> void* {
          st_usleep(0);  // until all have begun
          if (done == 0) the->begin();
          for (long k = 0; k < each; k++) st_usleep(0), done++;
          if (done == the->n * each) the->end();
          return nullptr;
        },
        nullptr, 1, 64 * 1024));
  }
  for (auto t : all) st_thread_join(t, nullptr);
  w.ops = done;
}

void hand_over(work& w) {
  st_init();
  static st_cond_t ping, pong;
  static long handed;
  static bool full;
  ping = st_cond_new(), pong = st_cond_new(), handed = 0, full = false;
  the = &w;
  auto t = st_thread_create(
      [](void*) -> void* {
        for (long i = 0; i < the->ops; i += 2) {
          while (!full) st_cond_wait(ping);
          full = false, handed++;
          st_cond_signal(pong);
        }
        return nullptr;
      },
      nullptr, 1, 64 * 1024);
  w.begin();
  for (long i = 0; i < w.ops; i += 2) {
    full = true;
    st_cond_signal(ping);
    while (full) st_cond_wait(pong);
  }
  w.end();
  st_thread_join(t, nullptr);
  check(handed == (w.ops + 1) / 2, "each was handed over");
}

void spawn(work& w) {
  st_init();
  std::vector<st_thread_t> batch(std::size_t(w.n));
  long sum = 0, i = 0;
  w.begin();
  while (i < w.ops) {
    for (auto& t : batch)
      t = st_thread_create([](void* p) { return p; }, reinterpret_cast<void*>(i++), 1, 64 * 1024);
    for (auto& t : batch) {
      void* result;
      st_thread_join(t, &result);
      sum += reinterpret_cast<long>(result);
    }
  }
  w.end();
  w.ops = i;
  check(sum == i * (i - 1) / 2, "all results came");
}

void memory_parked(work& w) {
  st_init();
  static long parked;
  memory before;
  for (long i = 0; i < w.n; i++) {
    if (!st_thread_create(
            [](void*) -> void* {
              parked++, st_sleep(1000);
              return nullptr;
            },
            nullptr, 0, 64 * 1024))
      fail("st_thread_create");
  }
  while (parked < w.n) st_usleep(0);
  before.report(w);
}

void echo(work&) {
  st_set_eventsys(ST_EVENTSYS_ALT);
  st_init();
  st_netfd_t listener = st_netfd_open_socket(listen_on_loopback());
  for (;;) {
    st_netfd_t c = st_accept(listener, nullptr, nullptr, ST_UTIME_NO_TIMEOUT);
    if (!c) fail("st_accept");
    no_delay(st_netfd_fileno(c));
    st_thread_create(
        [](void* p) -> void* {
          auto fd = static_cast<st_netfd_t>(p);
          char buffer[4096];
          for (ssize_t n; (n = st_read(fd, buffer, sizeof buffer, ST_UTIME_NO_TIMEOUT)) > 0;) {
            if (st_write(fd, buffer, std::size_t(n), ST_UTIME_NO_TIMEOUT) != n) break;
          }
          st_netfd_close(fd);
          return nullptr;
        },
        c, 0, 64 * 1024);
  }
}

void sleep(work& w) {
  st_init();
  static histogram late;
  static long wakes;
  static std::minstd_rand random(1);
  for (long i = 0; i < w.n; i++) {
    st_thread_create(
        [](void*) -> void* {
          for (;;) {
            auto us = random() % 1'000'000;
            double until = seconds() + double(us) * 1e-6;
            st_usleep(us);
            late.add(seconds() - until);
            wakes++;
          }
        },
        nullptr, 0, 64 * 1024);
  }
  st_sleep(1);
  late = {};
  w.begin();
  wakes = 0;
  st_usleep(st_utime_t(w.length * 1e6));
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
                  {"memory", memory_parked, question::once},
                  {"echo", echo, question::once},
                  {"sleep", sleep, question::once}});
}
