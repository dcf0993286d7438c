// Descriptors that are closed by calls that the runtime does not see, since there is no shim: the
// program's descriptors, while fibers wait for them, and the runtime's own.
#include <doctest/doctest.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <string>
#include <tendril/event.hpp>
#include <tendril/posix.hpp>
#include <tendril/task.hpp>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using tendril::spawn;

namespace {

struct outcome {
  long r;
  int error;
  bool operator==(const outcome&) const = default;
};
std::ostream& operator<<(std::ostream& o, const outcome& x) {
  return o << x.r << " errno " << x.error;
}

outcome made(const std::function<long()>& call) {
  errno = 0;
  long r = call();
  return {r, r < 0 ? errno : 0};
}

struct pair_of_sockets {
  int a, b;
  pair_of_sockets() {
    int s[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
    a = s[0];
    b = s[1];
  }
};

const std::function<long(int)> reads[] = {
    [](int fd) -> long {
      char c;
      return tendril::posix::read(fd, &c, 1);
    },
    [](int fd) -> long {
      char c;
      return tendril::posix::recv(fd, &c, 1, 0);
    },
    [](int fd) -> long {
      char c;
      iovec v{&c, 1};
      msghdr m{};
      m.msg_iov = &v;
      m.msg_iovlen = 1;
      return tendril::posix::recvmsg(fd, &m, 0);
    },
};

// The results of two tasks that waited for a number before it was closed and reused, and of one
// that waited afterwards.
struct three {
  outcome first, second, after;
};
three over_a_replacement(const std::function<long(int)>& call, bool kept_open) {
  pair_of_sockets old;
  int number = old.a;
  int copy = kept_open ? ::dup(old.a) : -1;
  auto first = spawn([&] { return made([&] { return call(number); }); });
  auto second = spawn([&] { return made([&] { return call(number); }); });
  tendril::sleep(1ms);
  REQUIRE(::close(number) == 0);
  pair_of_sockets fresh;
  REQUIRE(fresh.a == number);
  auto after = spawn([&] { return made([&] { return call(number); }); });
  tendril::sleep(1ms);
  if (kept_open) REQUIRE(::write(old.b, "old", 3) == 3);
  REQUIRE(::write(fresh.b, "f", 1) == 1);
  three all{first.get(), second.get(), after.get()};
  for (int fd : {old.b, fresh.a, fresh.b}) ::close(fd);
  if (kept_open) ::close(copy);
  return all;
}

bool first_thread_sleeps() {
  std::ifstream stat("/proc/self/task/" + std::to_string(::getpid()) + "/stat");
  std::string text;
  std::getline(stat, text);
  auto end = text.rfind(')');
  return end != text.npos && text[end + 2] == 'S';
}

}  // namespace

TEST_CASE(
    "fibers that wait for a number that is closed and reused get EBADF, and the new wait gets its "
    "data") {
  for (auto& call : reads) {
    for (bool kept_open : {false, true}) {
      three all = over_a_replacement(call, kept_open);
      CHECK(all.first == outcome{-1, EBADF});
      CHECK(all.second == outcome{-1, EBADF});
      CHECK(all.after == outcome{1, 0});
    }
  }
}

TEST_CASE("the same when the new wait is on another kernel thread's hub") {
  pair_of_sockets old;
  int number = old.a;
  auto first = spawn([&] { return made([&] { return reads[0](number); }); });
  tendril::sleep(1ms);
  REQUIRE(::close(number) == 0);
  pair_of_sockets fresh;
  REQUIRE(fresh.a == number);
  outcome after{};
  tendril::event waits;
  std::thread other([&] {
    auto ignored = spawn([] { tendril::sleep(1ms); });
    auto t = spawn([&] {
      waits.set();
      return made([&] { return reads[0](number); });
    });
    after = t.get();
  });
  waits.wait();
  REQUIRE(::write(fresh.b, "f", 1) == 1);
  other.join();
  CHECK(after == outcome{1, 0});
  // This thread's hub notices it at its next wait.
  auto again = spawn([&] { return made([&] { return reads[0](number); }); });
  tendril::sleep(1ms);
  REQUIRE(::write(fresh.b, "g", 1) == 1);
  CHECK(again.get() == outcome{1, 0});
  CHECK(first.get() == outcome{-1, EBADF});
  for (int fd : {old.b, fresh.a, fresh.b}) ::close(fd);
}

TEST_CASE("waits go on when every descriptor is closed that the program has not opened") {
  pair_of_sockets s;
  char c;
  auto close_others = [&] { ::close_range(unsigned(s.b) + 1, ~0u, 0); };
  auto reader = spawn([&] { return tendril::posix::read(s.a, &c, 1); });
  tendril::sleep(1ms);
  close_others();
  REQUIRE(::write(s.b, "ab", 2) == 2);
  CHECK(reader.get() == 1);
  CHECK(tendril::posix::read(s.a, &c, 1) == 1);
  SUBCASE("a signal") {
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    tendril::posix::sigprocmask(SIG_BLOCK, &set, &before);
    auto waits = spawn([&] {
      siginfo_t info;
      return tendril::posix::sigwaitinfo(&set, &info);
    });
    tendril::sleep(1ms);
    close_others();
    ::kill(::getpid(), SIGUSR2);
    CHECK(waits.get() == SIGUSR2);
    tendril::posix::sigprocmask(SIG_SETMASK, &before, nullptr);
  }
  SUBCASE("a child") {
    pid_t child = ::fork();
    if (child == 0) ::pause(), ::_exit(1);
    auto waits = spawn([&] { return tendril::posix::waitpid(child, nullptr, 0); });
    tendril::sleep(1ms);
    close_others();
    ::kill(child, SIGKILL);
    CHECK(waits.get() == child);
  }
  SUBCASE("another kernel thread") {
    for (int i = 0; i < 3; i++) {
      tendril::event done;
      std::thread other([&] { done.set(); });
      close_others();
      done.wait();
      other.join();
    }
  }
  ::close(s.a);
  ::close(s.b);
}

TEST_CASE("another kernel thread wakes a hub whose descriptors it has closed in its sleep") {
  pair_of_sockets s;
  tendril::event done;
  std::thread other([&] {
    for (int looks = 0; looks < 30; looks = first_thread_sleeps() ? looks + 1 : 0) ::sched_yield();
    ::close_range(unsigned(s.b) + 1, ~0u, 0);
    done.set();
  });
  done.wait();
  other.join();
  ::close(s.a);
  ::close(s.b);
}

TEST_CASE(
    "a file that the program has put on a number of the runtime is neither written to nor closed") {
  pair_of_sockets s;
  int pipe_ends[2];
  REQUIRE(::pipe(pipe_ends) == 0);
  char c;
  auto reader = spawn([&] { return tendril::posix::read(s.a, &c, 1); });
  tendril::sleep(1ms);
  int highest = int(::sysconf(_SC_OPEN_MAX));
  if (highest > 40'000) highest = 40'000;
  std::vector<int> taken;
  for (int fd = pipe_ends[1] + 1; fd < highest; fd++) {
    if (::fcntl(fd, F_GETFD) >= 0 && ::dup2(pipe_ends[1], fd) == fd) taken.push_back(fd);
  }
  for (int i = 0; i < 3; i++) {
    tendril::event done;
    std::thread other([&] { done.set(); });
    done.wait();
    other.join();
  }
  REQUIRE(::write(s.b, "a", 1) == 1);
  CHECK(reader.get() == 1);
  REQUIRE(!taken.empty());
  for (int fd : taken) CHECK(::close(fd) == 0);
  pollfd p{.fd = pipe_ends[0], .events = POLLIN, .revents = 0};
  CHECK(::poll(&p, 1, 0) == 0);
  for (int fd : {s.a, s.b, pipe_ends[0], pipe_ends[1]}) ::close(fd);
}
