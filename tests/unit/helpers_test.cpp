// Helper threads: as many as are needed at once; a helper is interrupted when its fiber no longer
// waits, and ends when idle. Without the shim, so that the test runs under ThreadSanitizer too.
#include <doctest/doctest.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include <string>
#include <tendril/posix.hpp>
#include <tendril/tendril.hpp>
#include <thread>
#include <vector>

namespace posix = tendril::posix;
using namespace std::chrono_literals;

namespace {

int threads() {
  FILE* f = fopen("/proc/self/status", "r");
  char line[200];
  int n = 0;
  while (fgets(line, sizeof line, f)) {
    if (sscanf(line, "Threads: %d", &n) == 1) break;
  }
  fclose(f);
  return n;
}

int look_up() {
  addrinfo hints{}, *found = nullptr;
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  int r = posix::getaddrinfo("localhost", "80", &hints, &found);
  if (r == 0) freeaddrinfo(found);
  return r;
}

// A file that `holder` has locked.
struct locked_file {
  char path[32] = "/tmp/tendril-XXXXXX";
  int holder = mkstemp(path);
  locked_file() { REQUIRE(flock(holder, LOCK_EX) == 0); }
  ~locked_file() {
    close(holder);
    unlink(path);
  }
  int open() const { return ::open(path, O_RDWR | O_CLOEXEC); }
  void unlock() const { REQUIRE(flock(holder, LOCK_UN) == 0); }
};

// While it lives, no thread can be made: the stacks that are asked for are larger than the address
// space.
struct no_more_threads {
  pthread_attr_t before;
  no_more_threads() {
    pthread_attr_t a;
    REQUIRE(pthread_getattr_default_np(&before) == 0);
    REQUIRE(pthread_getattr_default_np(&a) == 0);
    REQUIRE(pthread_attr_setstacksize(&a, size_t(1) << 56) == 0);
    REQUIRE(pthread_setattr_default_np(&a) == 0);
    pthread_attr_destroy(&a);
  }
  ~no_more_threads() {
    pthread_setattr_default_np(&before);
    pthread_attr_destroy(&before);
  }
};

}  // namespace

TEST_CASE("a hundred waits go on at once, each on its own helper thread") {
  locked_file file;
  std::vector<tendril::task<int>> all;
  for (int i = 0; i < 100; i++) {
    all.push_back(tendril::spawn([&] {
      int fd = file.open();
      int r = posix::flock(fd, LOCK_SH);
      close(fd);
      return r;
    }));
  }
  while (threads() < 101) tendril::sleep(1ms);
  // A look-up is not queued behind them.
  CHECK(tendril::spawn(look_up).get() == 0);
  flock(file.holder, LOCK_UN);
  for (auto& t : all) CHECK(t.get() == 0);
}

TEST_CASE("killing a wait for a lock frees its helper thread") {
  locked_file file;
  std::vector<tendril::task<void>> all;
  std::vector<int> results;
  for (int i = 0; i < 50; i++) {
    all.push_back(tendril::spawn([&] {
      int fd = file.open();
      results.push_back(posix::flock(fd, LOCK_EX) ? errno : 0);
      close(fd);
    }));
  }
  tendril::yield();
  for (size_t i = 0; i < all.size(); i += 2) all[i].request_kill();
  flock(file.holder, LOCK_UN);
  int canceled = 0, had = 0;
  tendril::joinall(all);
  for (int r : results) {
    canceled += r == ECANCELED;
    had += r == 0;
  }
  CHECK(canceled + had == 50);
  CHECK(had >= 25);
  CHECK(flock(file.holder, LOCK_EX | LOCK_NB) == 0);
}

TEST_CASE("look-ups may be killed, and end, at any moment") {
  for (int round = 0; round < 20; round++) {
    std::vector<tendril::task<void>> all;
    int result[10] = {};
    for (int& r : result) all.push_back(tendril::spawn([&r] { r = look_up(); }));
    tendril::sleep(std::chrono::microseconds(round * 50));
    for (size_t i = 0; i < all.size(); i += 2) all[i].request_kill();
    joinall(all);
    for (int i = 0; i < 10; i++) CHECK((result[i] == 0 || (i % 2 == 0 && result[i] == EAI_SYSTEM)));
  }
}

TEST_CASE("several kernel threads share the helpers") {
  std::vector<std::thread> all;
  std::atomic<int> good{0};
  for (int i = 0; i < 4; i++) {
    all.emplace_back([&] {
      std::vector<tendril::task<int>> tasks;
      for (int k = 0; k < 25; k++) tasks.push_back(tendril::spawn(look_up));
      for (auto& t : tasks) good += t.get() == 0;
    });
  }
  for (auto& t : all) t.join();
  CHECK(good == 100);
}

TEST_CASE("a kernel thread ends while its fibers wait on helpers") {
  locked_file file;
  std::thread([&] {
    for (int i = 0; i < 5; i++) {
      tendril::spawn([&] {
        int fd = file.open();
        posix::flock(fd, LOCK_EX);
        close(fd);
      });
      tendril::spawn(look_up);
    }
    tendril::yield();
  }).join();
  flock(file.holder, LOCK_UN);
  CHECK(flock(file.holder, LOCK_EX | LOCK_NB) == 0);
}

TEST_CASE("idle helpers end") {
  CHECK(tendril::spawn(look_up).get() == 0);
  while (threads() > 2) tendril::sleep(100ms);  // ThreadSanitizer has one thread of its own
}

// Follows the case above, so that there is no other helper.
TEST_CASE(
    "one helper makes the calls of all in their order, but for those whose waits have ended") {
  locked_file files[4];
  std::string order;
  auto locks = [&](int i) {
    return tendril::spawn([&, i] {
      int fd = files[i].open();
      int r = posix::flock(fd, LOCK_EX) ? errno : 0;
      close(fd);
      order += char(r == ECANCELED ? '-' : r ? '?' : '0' + i);
    });
  };
  std::vector<tendril::task<void>> all;
  all.push_back(locks(0));
  tendril::yield();
  no_more_threads from_now;
  for (int i = 1; i < 4; i++) all.push_back(locks(i));
  tendril::yield();
  all[1].request_kill();
  all[1].join();
  for (int i : {3, 2, 1, 0}) files[i].unlock();
  joinall(all);
  CHECK(order == "-023");
}
