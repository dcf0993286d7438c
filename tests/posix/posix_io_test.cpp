// Reading, writing, sockets and polling in fibers that share a kernel thread. The program is linked
// against the shim, so the plain names are the cooperative calls. Results are compared with native
// runs in programs/; these tests check which fibers run meanwhile, and which wake.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "ticker.hpp"

using namespace std::chrono_literals;

namespace {

constexpr size_t large = size_t(64) << 20;

struct ends {
  int in, out;  // data written to `in` can be read from `out`
};

ends make_pipe() {
  int p[2];
  REQUIRE(pipe(p) == 0);
  return {p[1], p[0]};
}
ends make_pair(int type = SOCK_STREAM) {
  int s[2];
  REQUIRE(socketpair(AF_UNIX, type, 0, s) == 0);
  return {s[0], s[1]};
}
struct listener {
  int fd;
  sockaddr_in address{};
  listener() : fd(socket(AF_INET, SOCK_STREAM, 0)) {
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t len = sizeof address;
    REQUIRE(bind(fd, (sockaddr*)&address, sizeof address) == 0);
    REQUIRE(listen(fd, 100) == 0);
    REQUIRE(getsockname(fd, (sockaddr*)&address, &len) == 0);
  }
  ~listener() { close(fd); }
  int connected() const {
    int s = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(connect(s, (const sockaddr*)&address, sizeof address) == 0);
    return s;
  }
};
ends make_tcp() {
  listener l;
  int s = l.connected();
  return {s, accept(l.fd, nullptr, nullptr)};
}
void close_both(const ends& e) {
  close(e.in);
  close(e.out);
}

// A call's result and errno.
struct outcome {
  long r;
  int error;
  bool operator==(const outcome&) const = default;
};
std::ostream& operator<<(std::ostream& o, const outcome& x) {
  return o << x.r << " " << strerrorname_np(x.error);
}
outcome failed(int error) { return {-1, error}; }
outcome worked(long r) { return {r, 0}; }

template <class Call>
outcome made(Call call) {
  errno = 0;
  long r = call();
  return {r, errno};
}

// Makes the call in a task; calls `end` when it waits and others have run.
template <class Call, class End>
outcome while_waiting(Call call, End end) {
  ticker t;
  auto task = tendril::spawn([&] { return made(call); });
  t.await(3);
  CHECK_FALSE(task.ready());
  end();
  return std::move(task).get();
}

template <class Call>
outcome killed(Call call) {
  ticker t;
  outcome what;
  auto task = tendril::spawn([&] {
    what = made(call);
    return 0;
  });
  t.await(3);
  CHECK_FALSE(task.ready());
  task.request_kill();
  task.join();
  // Whatever a C function makes of ECANCELED, the task ends as killed.
  if (what.error == ECANCELED) CHECK_THROWS_AS(task.get(), tendril::fiber_exit);
  else CHECK(task.get() == 0);
  return what;
}

void fill(int fd) {
  std::vector<char> some(1 << 16);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  while (write(fd, some.data(), some.size()) > 0) {}
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
}

size_t read_all(int fd, size_t most) {
  std::vector<char> some(1 << 16);
  size_t n = 0;
  while (n < most) {
    ssize_t r = read(fd, some.data(), std::min(some.size(), most - n));
    if (r <= 0) break;
    n += size_t(r);
  }
  return n;
}

char byte;

}  // namespace

TEST_CASE(
    "the kernel completes a receive that would block, if TENDRIL_POLLER=io_uring requests it and "
    "the kernel can") {
  // gives this thread a hub, which then knows that no other process has the sockets
  tendril::yield();
  ends e = make_tcp();
  auto received = tendril::spawn([&] { return recv(e.out, &byte, 1, 0); });
  tendril::yield();
  CHECK(write(e.in, "x", 1) == 1);
  CHECK(received.get() == 1);
  bool is_mapped = false;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) is_mapped |= line.ends_with("[io_uring]");
  const char* asked = getenv("TENDRIL_POLLER");
  if (asked && !strcmp(asked, "io_uring") && tendril::posix::io_uring_obstacle())
    std::printf("skipped: receiving by io_uring: %s\n", tendril::posix::io_uring_obstacle());
  CHECK(is_mapped == (asked && !strcmp(asked, "io_uring") && !tendril::posix::io_uring_obstacle()));
  close_both(e);
}

TEST_CASE("a reader waits while others run") {
  for (auto make : {make_pipe, make_tcp, +[] { return make_pair(); },
                    +[] { return make_pair(SOCK_SEQPACKET); }}) {
    ends e = make();
    CHECK(while_waiting([&] { return read(e.out, &byte, 1); },
                        [&] { CHECK(write(e.in, "x", 1) == 1); }) == worked(1));
    close_both(e);
  }
}

TEST_CASE("every call that reads waits while others run") {
  ends e = make_pair(), p = make_pipe();
  iovec v{&byte, 1};
  msghdr m{};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  mmsghdr mm{};
  mm.msg_hdr = m;
  int q[2];
  REQUIRE(pipe(q) == 0);
  std::function<long()> calls[] = {
      [&] { return readv(e.out, &v, 1); },
      [&] { return preadv2(e.out, &v, 1, -1, 0); },
      [&] { return recv(e.out, &byte, 1, 0); },
      [&] { return recv(e.out, &byte, 1, MSG_WAITALL); },
      [&] { return recvfrom(e.out, &byte, 1, 0, nullptr, nullptr); },
      [&] { return recvmsg(e.out, &m, 0); },
      [&] { return recvmmsg(e.out, &mm, 1, 0, nullptr); },
      [&] { return splice(e.out, nullptr, q[1], nullptr, 1, 0); },
  };
  for (auto& call : calls)
    CHECK(while_waiting(call, [&] { CHECK(write(e.in, "x", 1) == 1); }) == worked(1));
  CHECK(while_waiting([&] { return splice(p.out, nullptr, q[1], nullptr, 1, 0); },
                      [&] { CHECK(write(p.in, "x", 1) == 1); }) == worked(1));
  CHECK(while_waiting([&] { return tee(p.out, q[1], 1, 0); },
                      [&] { CHECK(write(p.in, "x", 1) == 1); }) == worked(1));
  close_both(e);
  close_both(p);
  close(q[0]);
  close(q[1]);
}

TEST_CASE("every call that waits for readiness lets others run") {
  ends e = make_pipe();
  int ep = epoll_create1(0);
  epoll_event event{};
  event.events = EPOLLIN;
  REQUIRE(epoll_ctl(ep, EPOLL_CTL_ADD, e.out, &event) == 0);
  pollfd p{};
  p.fd = e.out;
  p.events = POLLIN;
  auto select_it = [&](auto f) {
    fd_set r;
    FD_ZERO(&r);
    FD_SET(e.out, &r);
    return f(&r);
  };
  std::function<long()> calls[] = {
      [&] { return poll(&p, 1, -1); },
      [&] { return ppoll(&p, 1, nullptr, nullptr); },
      [&] {
        return select_it(
            [&](fd_set* r) { return select(e.out + 1, r, nullptr, nullptr, nullptr); });
      },
      [&] {
        return select_it(
            [&](fd_set* r) { return pselect(e.out + 1, r, nullptr, nullptr, nullptr, nullptr); });
      },
      [&] { return epoll_wait(ep, &event, 1, -1); },
      [&] { return epoll_pwait(ep, &event, 1, -1, nullptr); },
      [&] { return epoll_pwait2(ep, &event, 1, nullptr, nullptr); },
  };
  for (auto& call : calls) {
    CHECK(while_waiting(call, [&] { CHECK(write(e.in, "x", 1) == 1); }) == worked(1));
    CHECK(read(e.out, &byte, 1) == 1);
    CHECK(killed(call) == failed(ECANCELED));
  }
  close(ep);
  close_both(e);
}

TEST_CASE("accept and connect let others run") {
  listener l;
  int s = -1, a = -1;
  CHECK(while_waiting([&] { return (a = accept(l.fd, nullptr, nullptr)) >= 0; },
                      [&] { s = l.connected(); }) == worked(1));
  close(s);
  close(a);
  CHECK(killed([&] { return accept(l.fd, nullptr, nullptr); }) == failed(ECANCELED));
  sockaddr_un u{};
  u.sun_family = AF_UNIX;
  snprintf(u.sun_path + 1, sizeof u.sun_path - 1, "tendril-test-%d", getpid());
  int full = socket(AF_UNIX, SOCK_STREAM, 0);
  REQUIRE(bind(full, (sockaddr*)&u, sizeof u) == 0);
  REQUIRE(listen(full, 0) == 0);
  int first = socket(AF_UNIX, SOCK_STREAM, 0), second = socket(AF_UNIX, SOCK_STREAM, 0);
  REQUIRE(connect(first, (sockaddr*)&u, sizeof u) == 0);
  auto connect_second = [&] { return connect(second, (sockaddr*)&u, sizeof u); };
  CHECK(killed(connect_second) == failed(ECANCELED));
  CHECK(while_waiting(connect_second, [&] { a = accept(full, nullptr, nullptr); }) == worked(0));
  for (int fd : {full, first, second, a}) close(fd);
}

TEST_CASE("a write of 64 MB lets others run") {
  std::vector<char> all(large);
  for (auto make : {make_pipe, make_tcp, +[] { return make_pair(); }}) {
    ends e = make();
    ticker t;
    auto writer =
        tendril::spawn([&] { return made([&] { return write(e.in, all.data(), large); }); });
    t.await(3);
    CHECK_FALSE(writer.ready());
    CHECK(read_all(e.out, large) == large);
    CHECK(writer.get() == worked(long(large)));
    long before = t.ticks();
    auto sender = tendril::spawn([&] {
      iovec v[2] = {{all.data(), 12345}, {all.data() + 12345, large - 12345}};
      return made([&] { return writev(e.in, v, 2); });
    });
    CHECK(read_all(e.out, large) == large);
    CHECK(sender.get() == worked(long(large)));
    CHECK(t.ticks() > before);
    close_both(e);
  }
}

TEST_CASE("a reader in another process does not keep a writer from letting others run") {
  ends e = make_pipe();
  pid_t child = fork();
  if (child == 0) {
    close(e.in);
    _exit(read_all(e.out, large) == large ? 0 : 1);
  }
  close(e.out);
  std::vector<char> all(large);
  ticker t;
  auto writer =
      tendril::spawn([&] { return made([&] { return write(e.in, all.data(), large); }); });
  CHECK(writer.get() == worked(long(large)));
  CHECK(t.ticks() > 0);
  close(e.in);
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}

TEST_CASE("sendfile of 64 MB lets others run") {
  int f = memfd_create("large", 0);
  REQUIRE(ftruncate(f, large) == 0);
  ends e = make_tcp();
  ticker t;
  off_t at = 0;
  auto sender = tendril::spawn([&] { return made([&] { return sendfile(e.in, f, &at, large); }); });
  t.await(3);
  CHECK_FALSE(sender.ready());
  CHECK(read_all(e.out, large) == large);
  CHECK(sender.get() == worked(long(large)));
  CHECK(at == large);
  close_both(e);
  ends p = make_pipe();
  fill(p.in);
  at = 0;
  CHECK(while_waiting([&] { return sendfile(p.in, f, &at, 10); },
                      [&] { read_all(p.out, 1 << 16); }) == worked(10));
  close_both(p);
  close(f);
}

TEST_CASE("two fibers talk over a terminal") {
  int m, s;
  REQUIRE(openpty(&m, &s, nullptr, nullptr, nullptr) == 0);
  termios raw;
  tcgetattr(s, &raw);
  cfmakeraw(&raw);
  tcsetattr(s, TCSANOW, &raw);
  CHECK(while_waiting([&] { return read(s, &byte, 1); }, [&] { CHECK(write(m, "x", 1) == 1); }) ==
        worked(1));
  CHECK(while_waiting([&] { return read(m, &byte, 1); }, [&] { CHECK(write(s, "x", 1) == 1); }) ==
        worked(1));
  constexpr size_t n = 300'000;
  std::vector<char> all(n, 'x');
  ticker t;
  auto writer = tendril::spawn([&] { return made([&] { return write(s, all.data(), n); }); });
  t.await(3);
  CHECK_FALSE(writer.ready());
  CHECK(read_all(m, n) == n);
  CHECK(writer.get() == worked(long(n)));
  CHECK(killed([&] { return read(s, &byte, 1); }) == failed(ECANCELED));
  close(m);
  close(s);
}

TEST_CASE("event counters, timers and inotify let others run") {
  int e = eventfd(0, 0);
  uint64_t v = 1;
  CHECK(while_waiting([&] { return read(e, &v, 8); }, [&] { CHECK(eventfd_write(e, 5) == 0); }) ==
        worked(8));
  CHECK(v == 5);
  REQUIRE(eventfd_write(e, UINT64_MAX - 1) == 0);
  v = 1;
  CHECK(while_waiting([&] { return write(e, &v, 8); },
                      [&] {
                        uint64_t w;
                        CHECK(read(e, &w, 8) == 8);
                      }) == worked(8));
  close(e);
  int t = timerfd_create(CLOCK_MONOTONIC, 0);
  itimerspec soon{};
  soon.it_value.tv_nsec = 1;
  CHECK(while_waiting([&] { return read(t, &v, 8); },
                      [&] { timerfd_settime(t, 0, &soon, nullptr); }) == worked(8));
  close(t);
  char dir[] = "/tmp/tendril-XXXXXX", buf[100];
  REQUIRE(mkdtemp(dir));
  int i = inotify_init();
  REQUIRE(inotify_add_watch(i, dir, IN_DELETE_SELF) >= 0);
  CHECK(while_waiting([&] { return read(i, buf, sizeof buf) > 0; }, [&] { rmdir(dir); }) ==
        worked(1));
  close(i);
}

TEST_CASE("a reader parked on a closed descriptor wakes with EBADF") {
  for (auto make : {make_pipe, make_tcp, +[] { return make_pair(SOCK_DGRAM); }}) {
    ends e = make();
    CHECK(while_waiting([&] { return read(e.out, &byte, 1); }, [&] { CHECK(close(e.out) == 0); }) ==
          failed(EBADF));
    close(e.in);
  }
  ends e = make_pair();
  CHECK(while_waiting([&] { return recv(e.out, &byte, 1, MSG_WAITALL); },
                      [&] { close_range(unsigned(e.out), unsigned(e.out), 0); }) == failed(EBADF));
  close(e.in);
  e = make_pipe();
  fill(e.in);
  CHECK(while_waiting([&] { return write(e.in, &byte, 1); }, [&] { fclose(fdopen(e.in, "w")); }) ==
        failed(EBADF));
  close(e.out);
  listener l;
  CHECK(while_waiting([&] { return accept(l.fd, nullptr, nullptr); }, [&] { close(l.fd); }) ==
        failed(EBADF));
  l.fd = -1;
  e = make_pipe();
  pollfd p{};
  p.fd = e.out;
  p.events = POLLIN;
  CHECK(while_waiting([&] { return poll(&p, 1, -1); }, [&] { close(e.out); }) == worked(1));
  CHECK(p.revents == POLLNVAL);
  close(e.in);
}

TEST_CASE("another kernel thread may close what a fiber waits for") {
  for (auto make : {make_pipe, make_tcp}) {
    ends e = make();
    std::thread other;
    CHECK(while_waiting([&] { return read(e.out, &byte, 1); },
                        [&] { other = std::thread([&] { close(e.out); }); }) == failed(EBADF));
    other.join();
    close(e.in);
  }
}

TEST_CASE("closing a connection closes it for the peer while a fiber still waits for it") {
  ends e = make_tcp();
  auto reader = tendril::spawn([&] { return made([&] { return read(e.out, &byte, 1); }); });
  ticker().await(3);
  close(e.out);
  CHECK(recv(e.in, &byte, 1, MSG_DONTWAIT) == 0);
  CHECK(reader.get() == failed(EBADF));
  close(e.in);
}

TEST_CASE(
    "a receive that has just begun takes no data of the file that reuses the closed descriptor's "
    "number") {
  ends old = make_tcp(), next = make_tcp();
  CHECK(write(next.in, "x", 1) == 1);
  SUBCASE("closed by another fiber") {
    auto reader = tendril::spawn([&] { return made([&] { return recv(old.out, &byte, 1, 0); }); });
    auto closer = tendril::spawn([&] {
      close(old.out);
      return dup2(next.out, old.out);
    });
    CHECK(closer.get() == old.out);
    CHECK(reader.get() == failed(EBADF));
  }
  SUBCASE("replaced by another fiber") {
    auto reader = tendril::spawn([&] { return made([&] { return recv(old.out, &byte, 1, 0); }); });
    auto closer = tendril::spawn([&] { return dup2(next.out, old.out); });
    CHECK(closer.get() == old.out);
    CHECK(reader.get() == failed(EBADF));
  }
  SUBCASE("closed by another kernel thread") {
    auto reader = tendril::spawn([&] { return made([&] { return recv(old.out, &byte, 1, 0); }); });
    auto waiter = tendril::spawn([&] {
      std::thread([&] {
        close(old.out);
        CHECK(dup2(next.out, old.out) == old.out);
      }).join();
    });
    waiter.join();
    CHECK(reader.get() == failed(EBADF));
  }
  CHECK(recv(next.out, &byte, 1, MSG_DONTWAIT) == 1);
  close_both(old);
  close_both(next);
}

TEST_CASE("a receive that is killed loses no byte, and writes none afterwards") {
  ends e = make_tcp();
  for (int round = 0; round < 100; round++) {
    char buffer[2] = {};
    outcome got;
    auto reader = tendril::spawn([&] { got = made([&] { return recv(e.out, buffer, 2, 0); }); });
    for (int i = 0; i <= round % 3; i++) tendril::yield();
    bool late = round % 2;
    if (!late) CHECK(write(e.in, "x", 1) == 1);
    if (round % 5 == 0) ticker().await(3);
    reader.request_kill();
    reader.join();
    if (late) CHECK(write(e.in, "x", 1) == 1);
    bool received = got == worked(1);
    if (!received) CHECK(got == failed(ECANCELED));
    CHECK(buffer[0] == (received ? 'x' : 0));
    CHECK(recv(e.out, &byte, 1, MSG_DONTWAIT) == (received ? -1 : 1));
    CHECK(buffer[0] == (received ? 'x' : 0));
  }
  close_both(e);
}

TEST_CASE("dup2 over a descriptor wakes its reader with EBADF") {
  ends e = make_pipe(), other = make_pipe();
  CHECK(while_waiting([&] { return read(e.out, &byte, 1); },
                      [&] { CHECK(dup2(other.out, e.out) == e.out); }) == failed(EBADF));
  // The number now belongs to the other pipe.
  CHECK(while_waiting([&] { return read(e.out, &byte, 1); },
                      [&] { CHECK(write(other.in, "x", 1) == 1); }) == worked(1));
  SUBCASE("a dup2 that fails wakes nobody") {
    auto fail = [&] {
      CHECK(dup2(9999, e.out) == -1);
      CHECK(dup3(other.out, e.out, 0x1234) == -1);
      CHECK(close_range(unsigned(e.out), unsigned(e.out), 0x1000) == -1);
      ticker().await(3);
      CHECK(write(other.in, "x", 1) == 1);
    };
    CHECK(while_waiting([&] { return read(e.out, &byte, 1); }, fail) == worked(1));
  }
  close_both(e);
  close_both(other);
}

TEST_CASE("a closed message queue that was polled leaves its descriptor number usable") {
  std::string name = "/tendril_test_" + std::to_string(getpid());
  mqd_t queue = mq_open(name.c_str(), O_RDWR | O_CREAT, 0600, nullptr);
  if (queue < 0) return;  // message queues are not supported here
  mq_unlink(name.c_str());
  pollfd p{queue, POLLIN, 0};
  CHECK(while_waiting([&] { return poll(&p, 1, -1); },
                      [&] { CHECK(mq_send(queue, "x", 1, 0) == 0); }) == worked(1));
  CHECK(mq_close(queue) == 0);
  ends e = make_pipe();
  CHECK(e.out == queue);
  CHECK(while_waiting([&] { return read(e.out, &byte, 1); },
                      [&] { CHECK(write(e.in, "x", 1) == 1); }) == worked(1));
  close_both(e);
}

TEST_CASE("another kernel thread may close a descriptor just as fibers begin to wait for it") {
  for (int round = 0; round < 500; round++) {
    ends e = round % 2 ? make_tcp() : make_pipe();
    std::atomic<int> begun{0};
    int read_error = 0;
    short polled = 0;
    bool all = false;
    std::thread other([&] {
      std::vector<tendril::task<void>> tasks;
      tasks.push_back(tendril::spawn([&] {
        begun++;
        read_error = read(e.out, &byte, 1) < 0 ? errno : 0;
      }));
      tasks.push_back(tendril::spawn([&] {
        pollfd p{e.out, POLLIN, 0};
        begun++;
        if (poll(&p, 1, -1) == 1) polled = p.revents;
      }));
      all = tendril::joinall(tasks, 1h);
    });
    while (begun < 2) {}
    for (volatile int i = 0; i < round % 50 * 20;) i = i + 1;
    close(e.out);
    other.join();
    REQUIRE(all);
    REQUIRE(read_error == EBADF);
    REQUIRE(polled == POLLNVAL);
    close(e.in);
  }
}

TEST_CASE("an event of a closed descriptor does not wake the reader of its successor") {
  ends old = make_tcp(), kept{dup(old.in), dup(old.out)};
  int number = old.out;
  CHECK(while_waiting([&] { return read(number, &byte, 1); }, [&] { close(number); }) ==
        failed(EBADF));
  int next[2];
  REQUIRE(pipe(next) == 0);
  if (next[0] != number) {
    REQUIRE(dup2(next[0], number) == number);
    close(next[0]);
    next[0] = number;
  }
  bool woken = false;
  ticker t;
  auto reader = tendril::spawn([&] {
    ssize_t r = read(number, &byte, 1);
    woken = true;
    return r;
  });
  t.await(3);
  // The duplicate keeps the old file open, with data to read.
  CHECK(write(old.in, "x", 1) == 1);
  t.await(5);
  CHECK_FALSE(woken);
  CHECK(write(next[1], "y", 1) == 1);
  CHECK(reader.get() == 1);
  CHECK(byte == 'y');
  close(next[0]);
  close(next[1]);
  close(old.in);
  close_both(kept);
}

TEST_CASE("two readers of one pipe each get a byte") {
  ends e = make_pipe();
  ticker t;
  auto reader = [&] {
    char c;
    return read(e.out, &c, 1) == 1 ? c : '?';
  };
  auto a = tendril::spawn(reader), b = tendril::spawn(reader);
  t.await(3);
  CHECK(write(e.in, "1", 1) == 1);
  t.await(3);
  CHECK(a.ready() != b.ready());
  CHECK(write(e.in, "2", 1) == 1);
  CHECK(a.get() + b.get() == '1' + '2');
  close_both(e);
}

TEST_CASE("a hundred readers and a hundred writers of one pipe lose nothing") {
  ends e = make_pipe();
  std::vector<tendril::task<long>> readers, writers;
  for (int i = 0; i < 100; i++) {
    readers.push_back(tendril::spawn([&] { return long(read_all(e.out, 5000)); }));
    writers.push_back(tendril::spawn([&] {
      std::string piece(50, 'x');
      long n = 0;
      for (int k = 0; k < 100; k++) n += write(e.in, piece.data(), piece.size());
      return n;
    }));
  }
  long in = 0, out = 0;
  for (auto& t : writers) in += t.get();
  for (auto& t : readers) out += t.get();
  CHECK(in == 500'000);
  CHECK(out == 500'000);
  close_both(e);
}

TEST_CASE("a reader and a writer of one socket wait at once") {
  ends e = make_pair();
  fill(e.in);
  ticker t;
  auto reader = tendril::spawn([&] { return read(e.in, &byte, 1); });
  auto writer = tendril::spawn([&] { return write(e.in, "x", 1); });
  t.await(3);
  CHECK_FALSE(reader.ready());
  CHECK_FALSE(writer.ready());
  CHECK(write(e.out, "y", 1) == 1);
  CHECK(reader.get() == 1);
  CHECK_FALSE(writer.ready());
  close(e.out);
  signal(SIGPIPE, SIG_IGN);
  CHECK(writer.get() == -1);
  signal(SIGPIPE, SIG_DFL);
  close(e.in);
}

TEST_CASE("a killed task's call fails with ECANCELED") {
  ends e = make_pair(), p = make_pipe(), q = make_pipe(), t = make_tcp();
  fill(e.in);
  fill(q.in);
  char buf[10];
  CHECK(killed([&] { return read(p.out, buf, 1); }) == failed(ECANCELED));
  CHECK(killed([&] { return recv(e.in, buf, 1, 0); }) == failed(ECANCELED));
  CHECK(killed([&] { return recv(t.in, buf, 1, 0); }) == failed(ECANCELED));
  CHECK(killed([&] { return send(e.in, buf, 1, 0); }) == failed(ECANCELED));
  CHECK(killed([&] { return write(q.in, buf, 1); }) == failed(ECANCELED));
  CHECK(killed([&] { return splice(p.out, nullptr, e.in, nullptr, 1, 0); }) == failed(ECANCELED));
  CHECK(killed([&] { return poll(nullptr, 0, -1); }) == failed(ECANCELED));
  SUBCASE("but a partial transfer is returned") {
    std::vector<char> some(100'000);
    read_all(q.out, 65536);
    CHECK(killed([&] { return write(q.in, some.data(), some.size()); }) == worked(65536));
  }
  close_both(e);
  close_both(p);
  close_both(q);
  close_both(t);
}

TEST_CASE("O_NONBLOCK is never touched") {
  for (auto make : {make_pipe, make_tcp, +[] { return make_pair(); }}) {
    ends e = make();
    int in = fcntl(e.in, F_GETFL), out = fcntl(e.out, F_GETFL);
    auto same = [&] {
      CHECK(fcntl(e.in, F_GETFL) == in);
      CHECK(fcntl(e.out, F_GETFL) == out);
    };
    CHECK(while_waiting([&] { return read(e.out, &byte, 1); },
                        [&] {
                          same();
                          CHECK(write(e.in, "x", 1) == 1);
                        }) == worked(1));
    same();
    close_both(e);
  }
  listener l;
  int before = fcntl(l.fd, F_GETFL), s = -1;
  CHECK(while_waiting([&] { return accept(l.fd, nullptr, nullptr) >= 0; },
                      [&] {
                        CHECK(fcntl(l.fd, F_GETFL) == before);
                        s = l.connected();
                      }) == worked(1));
  CHECK(fcntl(s, F_GETFL) == before);
  close(s);
}

TEST_CASE("a descriptor that the program made non-blocking gives EAGAIN") {
  ends e = make_pair();
  fcntl(e.in, F_SETFL, O_RDWR | O_NONBLOCK);
  tendril::spawn([&] {
    CHECK(made([&] { return read(e.in, &byte, 1); }) == failed(EAGAIN));
    CHECK(made([&] { return recv(e.in, &byte, 1, 0); }) == failed(EAGAIN));
    std::vector<char> some(1 << 20);
    while (write(e.in, some.data(), some.size()) > 0) {}
    CHECK(made([&] { return write(e.in, some.data(), some.size()); }) == failed(EAGAIN));
    CHECK(made([&] { return send(e.in, some.data(), some.size(), 0); }) == failed(EAGAIN));
  }).get();
  close_both(e);
}

TEST_CASE("recv waits as long as it takes, not a second") {
  ends e = make_pair();
  ticker t;
  auto reader = tendril::spawn([&] { return made([&] { return recv(e.out, &byte, 1, 0); }); });
  tendril::sleep(1200ms);
  CHECK_FALSE(reader.ready());
  CHECK(write(e.in, "x", 1) == 1);
  CHECK(reader.get() == worked(1));
  close_both(e);
}

TEST_CASE("a socket's time-outs apply to fibers") {
  ends e = make_pair();
  timeval t{0, 20'000};
  setsockopt(e.out, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t);
  setsockopt(e.in, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t);
  fill(e.in);
  ticker tick;
  tendril::spawn([&] {
    CHECK(made([&] { return send(e.in, &byte, 1, 0); }) == failed(EAGAIN));
    read_all(e.out, 1 << 30);  // the time-out ends it
    CHECK(made([&] { return recv(e.out, &byte, 1, 0); }) == failed(EAGAIN));
    CHECK(made([&] { return read(e.out, &byte, 1); }) == failed(EAGAIN));
  }).get();
  CHECK(tick.ticks() > 0);
  close_both(e);
}

TEST_CASE("TCP_NODELAY stays as the program left it") {
  listener l;
  int s = l.connected(), value = 1;
  socklen_t n = sizeof value;
  CHECK(getsockopt(s, IPPROTO_TCP, TCP_NODELAY, &value, &n) == 0);
  CHECK(value == 0);
  close(s);
}

TEST_CASE("a fiber that never runs out of data does not starve the others") {
  int zero = open("/dev/zero", O_RDONLY);
  ends e = make_pipe();
  for (auto call :
       {std::function<void()>([&] { read(zero, &byte, 1); }), std::function<void()>([&] {
          write(e.in, "x", 1);
          read(e.out, &byte, 1);
        }),
        std::function<void()>([&] {
          pollfd p{};
          p.fd = zero;
          p.events = POLLIN;
          poll(&p, 1, -1);
        })}) {
    bool stop = false;
    auto busy = tendril::spawn([&] {
      while (!stop) call();
    });
    ticker t;
    t.await(5);
    stop = true;
    busy.join();
  }
  close(zero);
  close_both(e);
}

TEST_CASE("datagrams wait for room in the queue of a receiver without connection") {
  sockaddr_un u{};
  u.sun_family = AF_UNIX;
  snprintf(u.sun_path + 1, sizeof u.sun_path - 1, "tendril-queue-%d", getpid());
  int to = socket(AF_UNIX, SOCK_DGRAM, 0), from = socket(AF_UNIX, SOCK_DGRAM, 0);
  REQUIRE(bind(to, (sockaddr*)&u, sizeof u) == 0);
  auto put = [&](int flags) { return sendto(from, "x", 1, flags, (sockaddr*)&u, sizeof u); };
  while (put(MSG_DONTWAIT) == 1) {}
  CHECK(while_waiting([&] { return put(0); }, [&] { CHECK(recv(to, &byte, 1, 0) == 1); }) ==
        worked(1));
  CHECK(killed([&] { return put(0); }) == failed(ECANCELED));
  close(to);
  close(from);
}

TEST_CASE("a program's epoll loop and its other fibers go on together") {
  constexpr int count = 50, rounds = 100;
  int ep = epoll_create1(0);
  std::vector<ends> all;
  for (int i = 0; i < count; i++) {
    all.push_back(make_pair());
    epoll_event e{};
    e.events = EPOLLIN | EPOLLONESHOT;
    e.data.u32 = uint32_t(i);
    REQUIRE(epoll_ctl(ep, EPOLL_CTL_ADD, all.back().out, &e) == 0);
  }
  auto echo = tendril::spawn([&] {
    epoll_event got[8];
    for (int served = 0; served < count * rounds;) {
      int n = epoll_wait(ep, got, 8, -1);
      for (int i = 0; i < n; i++, served++) {
        int fd = all[got[i].data.u32].out;
        char c;
        CHECK(read(fd, &c, 1) == 1);
        CHECK(write(fd, &c, 1) == 1);
        got[i].events = EPOLLIN | EPOLLONESHOT;
        CHECK(epoll_ctl(ep, EPOLL_CTL_MOD, fd, &got[i]) == 0);
      }
    }
  });
  std::vector<tendril::task<int>> clients;
  for (auto& e : all) {
    clients.push_back(tendril::spawn([fd = e.in] {
      int good = 0;
      for (int r = 0; r < rounds; r++) {
        char c = char(r), d = 0;
        good += write(fd, &c, 1) == 1 && read(fd, &d, 1) == 1 && c == d;
      }
      return good;
    }));
  }
  for (auto& c : clients) CHECK(c.get() == rounds);
  echo.get();
  for (auto& e : all) close_both(e);
  close(ep);
}

TEST_CASE("errno is that of the call that failed in the same fiber") {
  ends e = make_pipe();
  ticker t;
  auto reader = tendril::spawn([&] {
    errno = 77;
    ssize_t r = read(e.out, &byte, 1);
    return outcome{r, errno};
  });
  auto other = tendril::spawn([&] {
    for (int i = 0; i < 10; i++) {
      CHECK(read(-1, &byte, 1) == -1);
      tendril::yield();
    }
  });
  other.join();
  CHECK(write(e.in, "x", 1) == 1);
  CHECK(reader.get() == outcome{1, 77});
  close_both(e);
}

TEST_CASE("a fork in a task leaves the child a working runtime") {
  ends e = make_pipe();
  ticker t;
  auto waiting = tendril::spawn([&] { return read(e.out, &byte, 1); });
  t.await(3);
  auto forker = tendril::spawn([] {
    pid_t child = fork();
    if (child == 0) {
      ends mine = make_pipe();
      auto reader = tendril::spawn([&] { return read(mine.out, &byte, 1); });
      tendril::sleep(1ms);
      bool waits = !reader.ready();
      write(mine.in, "x", 1);
      _exit(waits && reader.get() == 1 ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return status;
  });
  CHECK(forker.get() == 0);
  CHECK_FALSE(waiting.ready());
  CHECK(write(e.in, "x", 1) == 1);
  CHECK(waiting.get() == 1);
  close_both(e);
}
