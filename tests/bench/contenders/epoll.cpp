// A raw epoll loop with the state of a callback for each connection: the limit for servers based on
// readiness.
#include <sys/epoll.h>

#include <queue>
#include <random>

#include "bench.hpp"

using namespace bench;

namespace {

// Calls f(fd, events) for ever.
template <class F>
[[noreturn]] void loop(int ep, F f) {
  for (epoll_event events[256];;) {
    int n = epoll_wait(ep, events, 256, -1);
    for (int i = 0; i < n; i++) f(events[i].data.fd, events[i].events);
  }
}
void watch(int ep, int fd) {
  epoll_event e{.events = EPOLLIN, .data = {.fd = fd}};
  if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) < 0) fail("epoll_ctl");
}

void echo(work&) {
  int listener = listen_on_loopback(), ep = epoll_create1(0);
  watch(ep, listener);
  loop(ep, [=](int fd, unsigned) {
    char buffer[4096];
    if (fd == listener) {
      int c = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
      if (c < 0) fail("accept");
      no_delay(c);
      watch(ep, c);
    } else if (ssize_t n = recv(fd, buffer, sizeof buffer, 0);
               n <= 0 || send(fd, buffer, std::size_t(n), 0) != n) {
      close(fd);
    }
  });
}

// A minimal SOCKS5 proxy: the handshake blocks, since the load performs the handshakes one by one;
// the relaying does not.
void relay(work&) {
  int listener = listen_on_loopback(), ep = epoll_create1(0);
  watch(ep, listener);
  std::vector<int> other(65536, -1);
  loop(ep, [&](int fd, unsigned) {
    char buffer[4096];
    if (fd == listener) {
      int c = accept(listener, nullptr, nullptr), to = socket(AF_INET, SOCK_STREAM, 0);
      if (c < 0 || to < 0) fail("accept");
      sockaddr_in a = loopback(0);
      if (recv(c, buffer, sizeof buffer, 0) != 3 || send(c, "\5\0", 2, 0) != 2 ||
          recv(c, buffer, sizeof buffer, 0) != 10)
        fail("handshake");
      std::memcpy(&a.sin_port, buffer + 8, 2);
      if (connect(to, reinterpret_cast<sockaddr*>(&a), sizeof a) < 0 ||
          send(c, "\5\0\0\1\0\0\0\0\0\0", 10, 0) != 10)
        fail("connect");
      no_delay(c), no_delay(to);
      other[std::size_t(c)] = to, other[std::size_t(to)] = c;
      watch(ep, c), watch(ep, to);
    } else if (int to = other[std::size_t(fd)]; to >= 0) {
      ssize_t n = recv(fd, buffer, sizeof buffer, 0);
      if (n > 0 && send(to, buffer, std::size_t(n), 0) == n) return;
      other[std::size_t(fd)] = other[std::size_t(to)] = -1;
      close(fd), close(to);
    }
  });
}

void fetch(work& w) {
  int ep = epoll_create1(0);
  std::vector<std::size_t> got(65536);
  sockaddr_in to = loopback(w.argument);
  w.begin();
  for (long i = 0; i < w.n; i++) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) < 0) fail("connect");
    if (send(fd, fetch_request, sizeof fetch_request - 1, 0) < 0) fail("send");
    watch(ep, fd);
  }
  epoll_event events[256];
  for (long left = w.n; left > 0;) {
    int n = epoll_wait(ep, events, 256, -1);
    for (int i = 0; i < n; i++) {
      char buffer[4096];
      int fd = events[i].data.fd;
      ssize_t r = recv(fd, buffer, sizeof buffer, 0);
      if (r > 0) {
        got[std::size_t(fd)] += std::size_t(r);
      } else {
        check(got[std::size_t(fd)] == fetch_answer, "the whole answer");
        close(fd), left--;
        got[std::size_t(fd)] = 0;
      }
    }
  }
  w.end();
  w.ops = w.n;
}

// Timers on a heap, checked every millisecond.
void sleep(work& w) {
  std::minstd_rand random(1);
  std::priority_queue<double, std::vector<double>, std::greater<>> timers;
  histogram late;
  double start = seconds();
  for (long i = 0; i < w.n; i++) timers.push(start + double(random() % 1'000'000) * 1e-6);
  bool warm = false;
  for (double now = start; now < start + 1 + w.length; now = seconds()) {
    if (!warm && now > start + 1) {
      warm = true;
      late = {};
      w.begin();
      w.ops = 0;
    }
    for (; timers.top() <= now; w.ops++) {
      late.add(now - timers.top());
      timers.pop();
      timers.push(now + double(random() % 1'000'000) * 1e-6);
    }
    usleep(1000);
  }
  w.end();
  w.report_lateness(late);
}

}  // namespace

int main(int argc, char** argv) {
  return contend(argc, argv,
                 {{"echo", echo, question::once},
                  {"relay", relay, question::once},
                  {"fetch", fetch, question::once},
                  {"sleep", sleep, question::once}});
}
