// An echo server and its clients in one process: ten thousand connections at once, many of which
// are cut in every possible way. No data may be lost on the others, and no resource may be left
// over.
#include <arpa/inet.h>
#include <dirent.h>
#include <doctest/doctest.h>
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <tendril/posix.hpp>
#include <tendril/task.hpp>
#include <thread>
#include <vector>

#include "scheduler/hub.hpp"

using namespace std::chrono_literals;
namespace posix = tendril::posix;

namespace {

constexpr std::uint32_t seed = 20'240'613;
constexpr std::size_t chunk = 2048;
constexpr auto bound = 1h;

enum class fate : std::uint32_t {
  echo,           // everything is sent back
  half_closed,    // the client ends its direction, then reads
  late,           // the client's descriptor
  client_leaves,  // the client closes in the middle, with a reset or without
  server_leaves,
  client_killed,  // killed in a recv that nothing else would end
  server_killed,
  closed_under,  // another fiber closes the descriptor while the client waits
  stalled,       // the server does not read, so the client's send times out
  count,
};
constexpr std::array<double, std::size_t(fate::count)> weights = {30, 20, 10, 10, 10, 8, 6, 4, 2};

struct owned_fd {
  int fd = -1;
  explicit owned_fd(int f) noexcept : fd(f) {}
  owned_fd(owned_fd&& o) noexcept : fd(std::exchange(o.fd, -1)) {}
  ~owned_fd() { close(); }
  void close() {
    if (fd >= 0) posix::close(std::exchange(fd, -1));
  }
};

// The first bytes on a connection.
struct header {
  std::uint32_t index;
  fate what;
};

struct connection {
  fate what = fate::echo;
  std::size_t size = 0;  // how much the client intends to send
  std::size_t cut = 0;   // where one side leaves
  bool reset = false;
  int fd = -1;                             // the client's descriptor
  tendril::task<void> server;              // set when the server has read the header
  std::size_t received = 0, returned = 0;  // by the server
  std::size_t back = 0;                    // how much the client got back, and found correct
  bool as_expected = false;
};

char pattern(std::uint32_t index, std::size_t at) { return char(index * 31 + at * 7 + at / 251); }

bool send_all(int fd, const char* data, std::size_t n) {
  while (n > 0) {
    ssize_t sent = posix::send(fd, data, n, MSG_NOSIGNAL);
    if (sent < 0) return false;
    data += sent;
    n -= std::size_t(sent);
  }
  return true;
}

// Whether the other side has left, after any data that it sent.
bool gone(int fd) {
  char rest[chunk];
  ssize_t n;
  while ((n = posix::recv(fd, rest, sizeof rest, 0)) > 0) {}
  return n == 0 || errno == ECONNRESET;
}

class crowd {
 public:
  crowd(unsigned number, std::size_t count) : random_(seed + number), connections_(count) {
    std::discrete_distribution<unsigned> fates(weights.begin(), weights.end());
    for (connection& c : connections_) {
      c.what = fate(fates(random_));
      c.size = 1 + random_() % 16384;
      c.cut = random_() % c.size;
      c.reset = random_() % 2;
    }
  }

  void run() {
    listen();
    auto accepting = tendril::spawn([this] { accept(); });
    connect();
    // All connections are open now, and each has a fiber that waits.
    REQUIRE(opened_ == connections_.size());

    std::vector<tendril::task<void>> clients;
    for (std::uint32_t i = 0; i < connections_.size(); i++) {
      clients.push_back(tendril::spawn(
          [this, i, fd = owned_fd(connections_[i].fd)]() mutable { client(i, fd); }));
    }
    interfere(clients);
    CHECK(tendril::joinall(clients, bound));
    CHECK(tendril::joinall(servers_, bound));
    posix::close(listener_);
    CHECK(accepting.join(bound));
    account(clients);
  }

 private:
  void listen() {
    listener_ = posix::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address_;
    REQUIRE(bind(listener_, reinterpret_cast<sockaddr*>(&address_), size) == 0);
    REQUIRE(::listen(listener_, SOMAXCONN) == 0);
    REQUIRE(getsockname(listener_, reinterpret_cast<sockaddr*>(&address_), &size) == 0);
  }

  void accept() {
    for (;;) {
      int fd = posix::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) break;
      accepted_++;
      servers_.push_back(tendril::spawn([this, own = owned_fd(fd)]() mutable { serve(own); }));
      tendril::yield();
    }
    CHECK(errno == EBADF);  // main has closed the listener
  }

  void serve(owned_fd& own) {
    header h;
    REQUIRE(posix::recv(own.fd, &h, sizeof h, MSG_WAITALL) == sizeof h);
    connection& c = connections_[h.index];
    REQUIRE(c.what == h.what);
    c.server = tendril::task<void>(tendril::current_fiber());
    opened_++;
    if (c.what == fate::stalled) {
      pollfd p{.fd = own.fd, .events = POLLRDHUP, .revents = 0};
      CHECK(posix::poll(&p, 1, -1) == 1);
      return;
    }
    char data[chunk];
    for (;;) {
      ssize_t n = posix::recv(own.fd, data, sizeof data, 0);
      if (n <= 0) break;
      c.received += std::size_t(n);
      if (c.what == fate::server_leaves && c.received > c.cut) break;
      if (!send_all(own.fd, data, std::size_t(n))) break;
      c.returned += std::size_t(n);
    }
  }

  void connect() {
    constexpr std::size_t at_once = 100;  // far below any backlog
    std::vector<tendril::task<void>> all;
    for (std::uint32_t i = 0; i < connections_.size(); i++) {
      all.push_back(tendril::spawn([this, i] {
        connection& c = connections_[i];
        c.fd = posix::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        REQUIRE(c.fd >= 0);
        REQUIRE(posix::connect(c.fd, reinterpret_cast<sockaddr*>(&address_), sizeof address_) == 0);
        header h{i, c.what};
        REQUIRE(send_all(c.fd, reinterpret_cast<char*>(&h), sizeof h));
      }));
      while (i > accepted_ + at_once) tendril::yield();
    }
    for (auto& t : all) t.get();
    while (opened_ < connections_.size()) tendril::yield();
  }

  // Sends data up to `end`, and receives it back.
  bool exchange(std::uint32_t i, int fd, std::size_t end) {
    connection& c = connections_[i];
    char out[chunk], in[chunk];
    while (c.back < end) {
      std::size_t n = std::min(end - c.back, 1 + (i * 131 + c.back) % chunk);
      for (std::size_t k = 0; k < n; k++) out[k] = pattern(i, c.back + k);
      if (!send_all(fd, out, n)) return false;
      for (std::size_t got = 0; got < n;) {
        ssize_t r = posix::recv(fd, in, n - got, 0);
        if (r <= 0) return false;
        if (std::memcmp(in, out + got, std::size_t(r)) != 0) return false;
        got += std::size_t(r);
        c.back += std::size_t(r);
      }
    }
    return true;
  }

  bool half_closed(std::uint32_t i, int fd) {
    connection& c = connections_[i];
    std::vector<char> all(c.size);
    for (std::size_t k = 0; k < c.size; k++) all[k] = pattern(i, k);
    if (!send_all(fd, all.data(), c.size) || shutdown(fd, SHUT_WR) < 0) return false;
    char in[chunk];
    while (ssize_t n = posix::recv(fd, in, sizeof in, 0)) {
      if (n < 0 || c.back + std::size_t(n) > c.size ||
          std::memcmp(in, &all[c.back], std::size_t(n)) != 0)
        return false;
      c.back += std::size_t(n);
    }
    return true;
  }

  void client(std::uint32_t i, owned_fd& own) {
    connection& c = connections_[i];
    int fd = own.fd;
    char byte[chunk];
    switch (c.what) {
      case fate::echo:
        c.as_expected = exchange(i, fd, c.size);
        break;
      case fate::half_closed:
        c.as_expected = half_closed(i, fd);
        break;
      case fate::late: {
        timeval t{.tv_sec = 0, .tv_usec = 1000 + long(i % 50) * 1000};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
        bool timed_out = posix::recv(fd, byte, 1, 0) < 0 && errno == EAGAIN;
        t = {};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
        c.as_expected = timed_out && exchange(i, fd, c.size);
        break;
      }
      case fate::client_leaves: {
        c.as_expected = exchange(i, fd, c.cut);
        linger l{.l_onoff = c.reset, .l_linger = 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
        send_all(fd, byte, 1 + c.cut % sizeof byte);  // data that will not be read
        break;
      }
      case fate::server_leaves:
        c.as_expected = !exchange(i, fd, c.size) && gone(fd);
        break;
      case fate::server_killed:
        exchange(i, fd, c.cut / 8);  // possibly not even that
        c.as_expected = gone(fd);
        break;
      case fate::client_killed:
        c.as_expected = posix::recv(fd, byte, 1, 0) < 0 && errno == ECANCELED;
        own.close();
        tendril::yield();
        c.as_expected = false;  // a killed task does not reach this line
        break;
      case fate::closed_under:
        c.as_expected = posix::recv(fd, byte, 1, 0) < 0 && errno == EBADF;
        own.fd = -1;
        break;
      case fate::stalled: {
        int small = 4096;
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
        timeval t{.tv_sec = 0, .tv_usec = 20'000};
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
        c.as_expected = true;
        while (send_all(fd, byte, sizeof byte)) {}
        c.as_expected = errno == EAGAIN;
        linger l{.l_onoff = 1, .l_linger = 0};  // else the end would be queued behind unread data
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
        break;
      }
      case fate::count:
        break;
    }
  }

  // Kills and closes, in random order, while the others go on.
  void interfere(std::vector<tendril::task<void>>& clients) {
    std::vector<std::uint32_t> victims;
    for (std::uint32_t i = 0; i < connections_.size(); i++) {
      fate f = connections_[i].what;
      if (f == fate::client_killed || f == fate::server_killed || f == fate::closed_under)
        victims.push_back(i);
    }
    std::shuffle(victims.begin(), victims.end(), random_);
    tendril::yield();  // every client has begun and waits
    for (std::uint32_t i : victims) {
      connection& c = connections_[i];
      switch (c.what) {
        case fate::client_killed:
          random_() % 2 ? clients[i].kill() : clients[i].request_kill();
          break;
        case fate::server_killed:
          c.server.request_kill();
          break;
        default:
          posix::close(c.fd);
      }
      if (random_() % 16 == 0) tendril::yield();
    }
  }

  void account(const std::vector<tendril::task<void>>& clients) {
    std::array<std::size_t, std::size_t(fate::count)> seen = {}, wrong = {};
    std::size_t lost = 0, unfinished = 0, bytes = 0;
    for (std::size_t i = 0; i < connections_.size(); i++) {
      connection& c = connections_[i];
      seen[std::size_t(c.what)]++;
      wrong[std::size_t(c.what)] += !c.as_expected;
      if (c.what == fate::echo || c.what == fate::half_closed || c.what == fate::late) {
        lost += c.received != c.size || c.returned != c.size || c.back != c.size;
        bytes += c.back;
      }
      unfinished += !clients[i].ready() || !c.server.ready();
    }
    for (std::size_t f = 0; f < seen.size(); f++) {
      CAPTURE(f);
      CHECK(wrong[f] == 0);
    }
    CHECK(lost == 0);
    CHECK(unfinished == 0);
    std::printf("%zu connections, %zu bytes there and back\n", connections_.size(), bytes);
  }

  std::mt19937 random_;
  std::vector<connection> connections_;
  std::vector<tendril::task<void>> servers_;
  sockaddr_in address_{};
  int listener_ = -1;
  std::size_t accepted_ = 0, opened_ = 0;
};

std::size_t open_descriptors() {
  DIR* d = opendir("/proc/self/fd");
  std::size_t n = 0;
  while (readdir(d)) n++;
  closedir(d);
  return n;
}

std::size_t resident_pages() {
  std::ifstream statm("/proc/self/statm");
  std::size_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident;
}

std::size_t connections_allowed() {
  rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  std::size_t allowed = (limit.rlim_cur - 100) / 2;
  if (allowed >= CONNECTIONS) return CONNECTIONS;
  std::printf("only %zu connections: the limit of descriptors is %zu\n", allowed,
              std::size_t(limit.rlim_cur));
  return allowed;
}

}  // namespace

TEST_CASE(
    "thousands of connections at once, cut in every way: no data is lost, and nothing is left "
    "over") {
  std::size_t count = connections_allowed();
  std::printf("seed %u\n", seed);
  tendril::core::hub& hub = *tendril::core::hub::of(tendril::current_fiber().handle());
  tendril::sleep(1ms);  // gives the hub time to make its descriptors
  std::size_t descriptors = open_descriptors();
  std::size_t heap = 0, pages = 0;
  for (unsigned number = 0; number < 3; number++) {
    CAPTURE(number);
    { crowd(number, count).run(); }
    CHECK(open_descriptors() == descriptors);
    CHECK(hub.unfinished == 0);
    CHECK_FALSE(hub.io.has_waiters());
    CHECK(hub.timers.empty());
    CHECK(hub.ready.empty());
    CHECK(hub.waits.by_system == 0);
    malloc_trim(0);
    std::size_t heap_now = mallinfo2().uordblks, pages_now = resident_pages();
    if (number > 0) {  // the first round fills the pools
      CHECK(heap_now < heap + (256 << 10));
      // A sanitizer delays the reuse of freed memory.
      if (!SANITIZED) CHECK(pages_now < pages + pages / 8 + (16 << 20) / 4096);
    }
    heap = heap_now;
    pages = pages_now;
  }
}

TEST_CASE(
    "many connections on several kernel threads, which pass descriptor numbers on to each other") {
  std::size_t count = connections_allowed() / 8;
  std::size_t descriptors = open_descriptors();
  for (unsigned number = 100; number < 102; number++) {
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 4; t++)
      threads.emplace_back([=] { crowd(number * 10 + t, count).run(); });
    for (std::thread& t : threads) t.join();
    CHECK(open_descriptors() == descriptors);
  }
}
