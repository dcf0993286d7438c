// The cooperative calls that wait for time, children, signals, names and locks, in fibers that
// share a kernel thread. The program is linked against the shim, so the plain names are the
// cooperative calls.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <tendril/tendril.hpp>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

namespace {

// Runs during a test: a call that blocked the kernel thread would stop it.
class ticker {
 public:
  ticker()
      : task_(tendril::spawn([this] {
          for (;;) {
            tendril::sleep(1ms);
            ticks_++;
          }
        })) {}
  ~ticker() { task_.kill(); }
  long ticks() const { return ticks_; }
  // Waits until it has ticked `more` times more.
  void await(long more) {
    for (long end = ticks_ + more; ticks_ < end;) tendril::sleep(1ms);
  }

 private:
  long ticks_ = 0;
  tendril::task<void> task_;
};

// Runs `call` in a task; calls `end` when the ticker has ticked meanwhile. Returns the result of
// `call`.
template <class Call, class End>
auto while_ticking(Call call, End end) {
  ticker t;
  auto task = tendril::spawn(call);
  t.await(5);
  CHECK_FALSE(task.ready());
  end();
  return std::move(task).get();
}

struct temporary_file {
  char path[32] = "/tmp/tendril-XXXXXX";
  int fd = mkstemp(path);
  ~temporary_file() {
    close(fd);
    unlink(path);
  }
};

// Forks a child that runs f and exits with its result.
template <class F>
pid_t child(F f) {
  fflush(stdout);
  pid_t p = fork();
  REQUIRE(p >= 0);
  if (p == 0) _exit(f());
  return p;
}
int status_of(pid_t p) {
  int s = -1;
  pid_t r;
  do r = waitpid(p, &s, 0);
  while (r < 0 && errno == EINTR);
  REQUIRE(r == p);
  return WIFEXITED(s) ? WEXITSTATUS(s) : 1000 + WTERMSIG(s);
}

std::string file_text(const char* path) {
  std::string text;
  if (FILE* f = fopen(path, "r")) {
    char b[4096];
    for (size_t n; (n = fread(b, 1, sizeof b, f)) > 0;) text.append(b, n);
    fclose(f);
  }
  return text;
}
int descriptors() {
  int n = 0;
  for (int fd = 0; fd < 4096; fd++) n += fcntl(fd, F_GETFD) >= 0;
  return n;
}

std::atomic<int> handled{0};
void count(int) { handled++; }
void on_signal(int signal, int flags) {
  struct sigaction a {};
  a.sa_handler = count;
  a.sa_flags = flags;
  REQUIRE(sigaction(signal, &a, nullptr) == 0);
  handled = 0;
}

bool has_locks_of(const char* path) {
  struct stat s;
  stat(path, &s);
  return file_text("/proc/locks").find(":" + std::to_string(s.st_ino) + " ") != std::string::npos;
}

}  // namespace

TEST_CASE("many fibers sleep at once") {
  int asleep = 0, ended = 0;
  auto sleeps = [&](int way, timespec t) {
    asleep++;
    int r = 0;
    switch (way) {
      case 0:
        r = usleep(useconds_t(t.tv_sec * 1'000'000 + t.tv_nsec / 1000));
        break;
      case 1:
        r = nanosleep(&t, nullptr);
        break;
      case 2:
        r = clock_nanosleep(CLOCK_BOOTTIME, 0, &t, nullptr);
        break;
      default:
        r = clock_nanosleep(CLOCK_MONOTONIC, 0, &t, nullptr);
    }
    ended++;
    return r;
  };
  std::vector<tendril::task<int>> hours, moments;
  for (int i = 0; i < 100; i++) hours.push_back(tendril::spawn(sleeps, i % 4, timespec{3600, 0}));
  tendril::yield();
  CHECK(asleep == 100);
  CHECK(ended == 0);
  auto start = tendril::clock::now();
  for (int i = 0; i < 100; i++)
    moments.push_back(tendril::spawn(sleeps, i % 4, timespec{0, 50'000'000}));
  for (auto& t : moments) CHECK(t.get() == 0);
  CHECK(tendril::clock::now() - start >= 50ms);
  CHECK(ended == 100);
  tendril::killall(hours);
}

TEST_CASE("a call that waits and succeeds leaves errno alone, whatever others do meanwhile") {
  auto fails_all_the_time = tendril::spawn([] {
    for (;;) {
      errno = EBADF;
      tendril::yield();
    }
  });
  int p[2], status = 0;
  REQUIRE(pipe(p) == 0);
  char b = 0;
  auto soon = [&](auto f) {
    return tendril::spawn([=] {
      tendril::sleep(5ms);
      f();
    });
  };
  auto leaves_it = [](auto call) {
    errno = 77;
    call();
    return errno == 77;
  };
  SUBCASE("a sleep") {
    timespec t{0, 5'000'000};
    CHECK(leaves_it([&] { CHECK(nanosleep(&t, nullptr) == 0); }));
    CHECK(leaves_it([&] { CHECK(clock_nanosleep(CLOCK_BOOTTIME, 0, &t, nullptr) == 0); }));
    CHECK(leaves_it([&] { CHECK(usleep(5000) == 0); }));
  }
  SUBCASE("a descriptor") {
    auto t = soon([&] { CHECK(write(p[1], "x", 1) == 1); });
    CHECK(leaves_it([&] { CHECK(read(p[0], &b, 1) == 1); }));
  }
  SUBCASE("poll") {
    auto t = soon([&] { CHECK(write(p[1], "x", 1) == 1); });
    pollfd fds[2] = {{p[0], POLLIN, 0}, {p[0], POLLIN, 0}};
    CHECK(leaves_it([&] { CHECK(poll(fds, 2, 3'600'000) == 2); }));
  }
  SUBCASE("a child") {
    pid_t c = child([] { return usleep(5000); });
    CHECK(leaves_it([&] { CHECK(waitpid(c, &status, 0) == c); }));
    c = child([] { return usleep(5000); });
    CHECK(leaves_it([&] { CHECK(wait(&status) == c); }));
    CHECK(leaves_it([&] { CHECK(system("exit 3") == 3 << 8); }));
  }
  SUBCASE("a lock") {
    temporary_file file;
    int other = open(file.path, O_RDWR);
    REQUIRE(flock(other, LOCK_EX) == 0);
    auto t = soon([&] { CHECK(flock(other, LOCK_UN) == 0); });
    CHECK(leaves_it([&] { CHECK(flock(file.fd, LOCK_EX) == 0); }));
    t.join();
    CHECK(leaves_it([&] { CHECK(fsync(file.fd) == 0); }));
    close(other);
  }
  SUBCASE("a signal") {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    auto t = soon([] { raise(SIGUSR1); });
    CHECK(leaves_it([&] { CHECK(sigwaitinfo(&set, nullptr) == SIGUSR1); }));
    sigprocmask(SIG_UNBLOCK, &set, nullptr);
  }
  fails_all_the_time.kill();
  close(p[0]);
  close(p[1]);
}

TEST_CASE("sleep(0) lets others run") {
  bool ran = false;
  auto t = tendril::spawn([&] { ran = true; });
  sleep(0);
  CHECK(ran);
}

TEST_CASE("a killed sleep fails with ECANCELED, and so does the next one, at once") {
  int first = 0, second = 0;
  auto t = tendril::spawn([&] {
    timespec hour{3600, 0};
    first = nanosleep(&hour, nullptr) ? errno : 0;
    second = clock_nanosleep(CLOCK_TAI, 0, &hour, nullptr);
    CHECK(sleep(3600) == 3600);
  });
  tendril::yield();
  t.kill();
  CHECK(first == ECANCELED);
  CHECK(second == ECANCELED);
}

TEST_CASE("others run while a fiber waits for a child") {
  int p[2];
  REQUIRE(pipe(p) == 0);
  auto a_child = [&] {
    return child([&] {
      char b;
      return read(p[0], &b, 1) == 1 ? 7 : 1;
    });
  };
  auto release = [&] { REQUIRE(write(p[1], "x", 1) == 1); };
  SUBCASE("waitpid") {
    pid_t c = a_child();
    CHECK(while_ticking([c] { return status_of(c); }, release) == 7);
  }
  SUBCASE("wait") {
    pid_t c = a_child();
    CHECK(while_ticking([] { return wait(nullptr); }, release) == c);
  }
  SUBCASE("a group") {
    pid_t c = a_child();
    CHECK(while_ticking([] { return waitpid(0, nullptr, 0); }, release) == c);
  }
  SUBCASE("waitid") {
    pid_t c = a_child();
    siginfo_t i{};
    CHECK(while_ticking([&] { return waitid(P_ALL, 0, &i, WEXITED); }, release) == 0);
    CHECK(i.si_pid == c);
  }
  SUBCASE("WUNTRACED") {
    pid_t c = a_child();
    int s = 0;
    CHECK(while_ticking([&] { return waitpid(c, &s, WUNTRACED); }, [&] { kill(c, SIGSTOP); }) == c);
    CHECK(WIFSTOPPED(s));
    kill(c, SIGCONT);
    release();
    CHECK(status_of(c) == 7);
  }
  SUBCASE("system") {
    std::string command = "read x <&" + std::to_string(p[0]) + "; exit $x";
    CHECK(while_ticking([&] { return system(command.c_str()); },
                        [&] { REQUIRE(write(p[1], "9\n", 2) == 2); }) == 9 << 8);
  }
  SUBCASE("pclose") {
    std::string command = "read x <&" + std::to_string(p[0]) + "; exit $x";
    FILE* f = popen(command.c_str(), "r");
    CHECK(while_ticking([&] { return pclose(f); }, [&] { REQUIRE(write(p[1], "9\n", 2) == 2); }) ==
          9 << 8);
  }
  close(p[0]);
  close(p[1]);
}

TEST_CASE("two fibers wait for any child, and each gets one") {
  int p[2];
  REQUIRE(pipe(p) == 0);
  auto sleeper = [&] {
    char b;
    return int(read(p[0], &b, 1));
  };
  pid_t a = child(sleeper), b = child(sleeper);
  auto first = tendril::spawn([] { return wait(nullptr); });
  auto second = tendril::spawn([] { return wait(nullptr); });
  ticker t;
  t.await(3);
  REQUIRE(write(p[1], "xx", 2) == 2);
  pid_t x = first.get(), y = second.get();
  CHECK(((x == a && y == b) || (x == b && y == a)));
  CHECK(wait(nullptr) == -1);
  CHECK(errno == ECHILD);
  close(p[0]);
  close(p[1]);
}

TEST_CASE("two fibers wait for the same child: one gets it, the other ECHILD") {
  int p[2];
  REQUIRE(pipe(p) == 0);
  pid_t c = child([&] {
    char b;
    return int(read(p[0], &b, 1));
  });
  auto waits = [c] { return waitpid(c, nullptr, 0) == c ? 1 : errno == ECHILD ? 10 : 100; };
  auto first = tendril::spawn(waits), second = tendril::spawn(waits);
  ticker t;
  t.await(3);
  REQUIRE(write(p[1], "x", 1) == 1);
  CHECK(first.get() + second.get() == 11);
  close(p[0]);
  close(p[1]);
}

TEST_CASE("a killed wait leaves the child") {
  pid_t c = child([] { return pause(); });
  int error = 0;
  for (int options : {0, WUNTRACED}) {
    auto t = tendril::spawn([&] { error = waitpid(c, nullptr, options) < 0 ? errno : 0; });
    ticker tick;
    tick.await(3);
    t.kill();
    CHECK(error == ECANCELED);
  }
  kill(c, SIGKILL);
  CHECK(status_of(c) == 1000 + SIGKILL);
}

TEST_CASE("many concurrent system() calls restore what they changed") {
  struct sigaction before, after;
  sigset_t mask;
  sigaction(SIGINT, nullptr, &before);
  std::vector<tendril::task<int>> all;
  for (int i = 0; i < 20; i++) {
    all.push_back(tendril::spawn([i] {
      return system(
          ("sleep 0.0" + std::to_string(i * 7 % 10) + "; exit " + std::to_string(i)).c_str());
    }));
  }
  for (int i = 0; i < 20; i++) CHECK(all[size_t(i)].get() == i << 8);
  sigaction(SIGINT, nullptr, &after);
  CHECK((before.sa_handler == after.sa_handler));
  sigprocmask(SIG_BLOCK, nullptr, &mask);
  CHECK(sigismember(&mask, SIGCHLD) == 0);
}

TEST_CASE("a killed system() kills its shell") {
  int error = 0, r = 0;
  auto t = tendril::spawn([&] {
    r = system("exec sleep 1000");
    error = errno;
  });
  ticker tick;
  tick.await(5);
  t.kill();
  CHECK(r == -1);
  CHECK(error == ECANCELED);
  CHECK(waitpid(-1, nullptr, WNOHANG) == -1);
  CHECK(errno == ECHILD);
}

TEST_CASE(
    "a kernel thread that waits can be cancelled, before and after the runtime used its signal") {
  auto cancelled = [] {
    std::atomic<bool> begun = false;
    pthread_t id;
    REQUIRE(pthread_create(
                &id, nullptr,
                [](void* b) -> void* {
                  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, nullptr);
                  static_cast<std::atomic<bool>*>(b)->store(true);
                  for (std::atomic<int> n = 0;; n++) {}  // (C++ lets an empty loop end)
                },
                &begun) == 0);
    while (!begun) std::this_thread::yield();
    pthread_cancel(id);
    void* result = nullptr;
    pthread_join(id, &result);
    return result == PTHREAD_CANCELED;
  };
  CHECK(cancelled());
  // A helper waits for a lock, and is stopped by that signal.
  temporary_file file;
  int other = open(file.path, O_RDWR);
  REQUIRE(flock(other, LOCK_EX) == 0);
  for (int i = 0; i < 2; i++) {
    auto t = tendril::spawn([&] { return flock(file.fd, LOCK_EX) ? errno : 0; });
    ticker tick;
    tick.await(3);
    t.kill();
    CHECK(cancelled());
  }
  close(other);
}

TEST_CASE("calls that helpers make tell their errors") {
  ticker t;
  int p[2];
  REQUIRE(pipe(p) == 0);
  temporary_file file;
  auto error = [](auto call) {
    errno = 0;
    return call() == -1 ? errno : 0;
  };
  CHECK(error([&] { return fsync(p[0]); }) == EINVAL);
  CHECK(error([&] { return fdatasync(p[0]); }) == EINVAL);
  CHECK(error([] { return syncfs(-1); }) == EBADF);
  CHECK(error([&] { return sync_file_range(p[0], 0, 0, 0); }) == ESPIPE);
  CHECK(error([] { return msync(nullptr, 1, MS_SYNC); }) == ENOMEM);
  CHECK(error([] { return fallocate(-1, 0, 0, 1); }) == EBADF);
  CHECK(error([&] { return fallocate(file.fd, 0, 0, 0); }) == EINVAL);
  CHECK(error([&] { return copy_file_range(file.fd, nullptr, p[1], nullptr, 1, 0); }) == EINVAL);
  CHECK(error([] { return waitpid(getpid(), nullptr, 0); }) == ECHILD);
  CHECK(error([] { return wait(nullptr); }) == ECHILD);
  errno = 0;
  CHECK(posix_fallocate(-1, 0, 1) == EBADF);  // returns it
  CHECK(errno == 0);
  close(p[0]);
  close(p[1]);
}

TEST_CASE("a hundred look-ups go on at once") {
  ticker t;
  std::vector<tendril::task<int>> all;
  for (int i = 0; i < 100; i++) {
    all.push_back(tendril::spawn([] {
      addrinfo hints{}, *found = nullptr;
      hints.ai_family = AF_INET;
      hints.ai_socktype = SOCK_STREAM;
      int r = getaddrinfo("localhost", "80", &hints, &found);
      if (r == 0) freeaddrinfo(found);
      return r;
    }));
  }
  for (auto& a : all) CHECK(a.get() == 0);
}

TEST_CASE("look-ups of killed fibers are abandoned") {
  std::vector<tendril::task<void>> all;
  for (int i = 0; i < 30; i++) {
    all.push_back(tendril::spawn([] {
      addrinfo* found = nullptr;
      if (getaddrinfo("localhost", nullptr, nullptr, &found) == 0) freeaddrinfo(found);
    }));
  }
  tendril::yield();
  for (auto& a : all) a.kill();
  addrinfo* found = nullptr;
  CHECK(getaddrinfo("localhost", nullptr, nullptr, &found) == 0);
  freeaddrinfo(found);
}

TEST_CASE("gethostbyname in a fiber") {
  auto t = tendril::spawn([] {
    hostent* h = gethostbyname("localhost");
    return h ? std::string(h->h_name) : "";
  });
  CHECK(t.get() == "localhost");
}

TEST_CASE("fibers wait for locks, and get them") {
  temporary_file file;
  int other = open(file.path, O_RDWR);
  SUBCASE("flock") {
    REQUIRE(flock(other, LOCK_EX) == 0);
    CHECK(while_ticking([&] { return flock(file.fd, LOCK_EX); }, [&] { flock(other, LOCK_UN); }) ==
          0);
    CHECK(flock(other, LOCK_EX | LOCK_NB) == -1);
  }
  SUBCASE("open file description locks") {
    struct flock l {};
    l.l_type = F_WRLCK;
    REQUIRE(fcntl(other, F_OFD_SETLK, &l) == 0);
    CHECK(while_ticking(
              [&] {
                struct flock mine {};
                mine.l_type = F_WRLCK;
                return fcntl(file.fd, F_OFD_SETLKW, &mine);
              },
              [&] {
                l.l_type = F_UNLCK;
                fcntl(other, F_OFD_SETLK, &l);
              }) == 0);
  }
  SUBCASE("record locks, which a child holds") {
    int p[2], q[2];
    REQUIRE(pipe(p) == 0);
    REQUIRE(pipe(q) == 0);
    pid_t c = child([&] {
      char b;
      int own = open(file.path, O_RDWR);
      if (lockf(own, F_LOCK, 0) || write(q[1], "x", 1) != 1) return 1;
      return int(read(p[0], &b, 1)) - 1;
    });
    char b;
    REQUIRE(read(q[0], &b, 1) == 1);
    CHECK(while_ticking([&] { return lockf(file.fd, F_LOCK, 0); },
                        [&] { REQUIRE(write(p[1], "x", 1) == 1); }) == 0);
    CHECK(status_of(c) == 0);
    for (int fd : {p[0], p[1], q[0], q[1]}) close(fd);
  }
  close(other);
}

TEST_CASE("lockf locks as many bytes as asked, from the file's position on") {
  temporary_file file;
  ticker t;
  auto locked_to_others = [&](off_t at, off_t n) {
    return status_of(child([&] {
      struct flock l {};
      l.l_type = F_WRLCK;
      l.l_whence = SEEK_SET;
      l.l_start = at;
      l.l_len = n;
      return fcntl(file.fd, F_GETLK, &l) == 0 ? l.l_type != F_UNLCK : 2;
    }));
  };
  REQUIRE(lseek(file.fd, 100, SEEK_SET) == 100);
  REQUIRE(lockf(file.fd, F_LOCK, 10) == 0);
  CHECK(locked_to_others(0, 100) == 0);
  CHECK(locked_to_others(109, 1) == 1);
  CHECK(locked_to_others(110, 0) == 0);
  REQUIRE(lockf(file.fd, F_ULOCK, 10) == 0);
  REQUIRE(lockf(file.fd, F_LOCK, -10) == 0);
  CHECK(locked_to_others(0, 90) == 0);
  CHECK(locked_to_others(90, 1) == 1);
  CHECK(locked_to_others(100, 0) == 0);
  REQUIRE(lockf(file.fd, F_LOCK, 0) == 0);
  CHECK(locked_to_others(1'000'000, 1) == 1);
}

TEST_CASE("a killed wait for a lock never gets it") {
  temporary_file file;
  int holder = open(file.path, O_RDWR), waiter = open(file.path, O_RDWR);
  REQUIRE(flock(holder, LOCK_EX) == 0);
  int error = 0;
  auto t = tendril::spawn([&] { error = flock(waiter, LOCK_EX) ? errno : 0; });
  ticker tick;
  tick.await(3);
  t.kill();
  CHECK(error == ECANCELED);
  flock(holder, LOCK_UN);
  CHECK_FALSE(has_locks_of(file.path));
  CHECK(flock(holder, LOCK_EX | LOCK_NB) == 0);
  close(holder);
  close(waiter);
}

TEST_CASE("two fibers open the two ends of a FIFO") {
  char directory[] = "/tmp/tendril-XXXXXX";
  REQUIRE(mkdtemp(directory));
  std::string path = std::string(directory) + "/fifo";
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  auto reader = tendril::spawn([&] {
    int fd = open(path.c_str(), O_RDONLY);
    char b[4] = {};
    ssize_t n = read(fd, b, 4);
    close(fd);
    return std::string(b, size_t(n));
  });
  tendril::yield();
  auto writer = tendril::spawn([&] {
    int fd = open(path.c_str(), O_WRONLY);
    ssize_t n = write(fd, "abc", 3);
    close(fd);
    return n;
  });
  CHECK(reader.get() == "abc");
  CHECK(writer.get() == 3);
  int error = 0;
  auto lonely = tendril::spawn([&] { error = open(path.c_str(), O_RDONLY) < 0 ? errno : 0; });
  ticker tick;
  tick.await(3);
  lonely.kill();
  CHECK(error == ECANCELED);
  unlink(path.c_str());
  rmdir(directory);
}

TEST_CASE("a signal ends the wait of the main fiber only") {
  on_signal(SIGUSR1, 0);
  timespec hour{3600, 0};
  int p[2];
  REQUIRE(pipe(p) == 0);
  auto sleeper = tendril::spawn([&] {
    timespec a_while{0, 100'000'000};
    return nanosleep(&a_while, nullptr);
  });
  auto reader = tendril::spawn([&] {
    char b;
    return read(p[0], &b, 1);
  });
  auto locker = tendril::spawn([] { return kill(getpid(), SIGUSR1); });
  CHECK(nanosleep(&hour, nullptr) == -1);
  CHECK(errno == EINTR);
  CHECK(handled == 1);
  CHECK(sleeper.get() == 0);
  REQUIRE(write(p[1], "x", 1) == 1);
  CHECK(reader.get() == 1);
  close(p[0]);
  close(p[1]);
  signal(SIGUSR1, SIG_DFL);
}

TEST_CASE("a signal from outside, while all fibers wait") {
  on_signal(SIGUSR1, 0);
  pid_t me = getpid();
  ticker t;
  std::thread sender([me] {
    // Waits until the main thread sleeps in a system call.
    for (int looks = 0; looks < 3;) {
      std::string s = file_text(("/proc/" + std::to_string(me) + "/status").c_str());
      looks = s.find("State:\tS") != std::string::npos ? looks + 1 : 0;
      std::this_thread::yield();
    }
    kill(me, SIGUSR1);
  });
  timespec hour{3600, 0};
  CHECK(nanosleep(&hour, nullptr) == -1);
  CHECK(errno == EINTR);
  sender.join();
  CHECK(handled >= 1);
  signal(SIGUSR1, SIG_DFL);
}

TEST_CASE("pause and sigsuspend in a fiber wait for a handler") {
  on_signal(SIGUSR1, SA_RESTART);
  auto pauses = tendril::spawn([] { return pause() == -1 && errno == EINTR; });
  sigset_t none;
  sigemptyset(&none);
  auto suspends = tendril::spawn([&] { return sigsuspend(&none) == -1 && errno == EINTR; });
  ticker t;
  t.await(3);
  CHECK_FALSE(pauses.ready());
  CHECK_FALSE(suspends.ready());
  raise(SIGUSR1);
  CHECK(pauses.get());
  CHECK(suspends.get());
  CHECK(handled == 1);
  auto killed = tendril::spawn([] { return pause(); });
  tendril::yield();
  killed.kill();
  signal(SIGUSR1, SIG_DFL);
}

TEST_CASE("sigwait in a fiber, while others run") {
  sigset_t set, before;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  sigprocmask(SIG_BLOCK, &set, &before);
  int s = 0;
  CHECK(while_ticking([&] { return sigwait(&set, &s); }, [] { kill(getpid(), SIGUSR2); }) == 0);
  CHECK(s == SIGUSR2);
  auto killed = tendril::spawn([&] { return sigwaitinfo(&set, nullptr) == -1 ? errno : 0; });
  tendril::yield();
  killed.request_kill();
  killed.join();
  timespec soon{0, 5'000'000};
  CHECK(tendril::spawn([&] {
          return sigtimedwait(&set, nullptr, &soon) == -1 && errno == EAGAIN;
        }).get());
  sigprocmask(SIG_SETMASK, &before, nullptr);
}

TEST_CASE("after waits with several masks, the original mask is restored") {
  sigset_t all, now;
  sigfillset(&all);
  std::vector<tendril::task<int>> tasks;
  for (int i = 0; i < 10; i++) {
    tasks.push_back(tendril::spawn([&all, i] {
      timespec t{0, (10 - i) % 4 * 3'000'000 + 1'000'000};
      return ppoll(nullptr, 0, &t, &all);
    }));
  }
  for (auto& t : tasks) CHECK(t.get() == 0);
  sigprocmask(SIG_BLOCK, nullptr, &now);
  CHECK(sigismember(&now, SIGUSR1) == 0);
  CHECK(sigismember(&now, SIGTERM) == 0);
}

TEST_CASE("a handler's calls block, and do not switch") {
  static int in_handler;
  in_handler = 0;
  static long ticks_inside;
  static ticker* t;
  ticker mine;
  t = &mine;
  signal(SIGUSR1, [](int) {
    long before = t->ticks();
    timespec a_while{0, 20'000'000};
    if (nanosleep(&a_while, nullptr) == 0) in_handler++;
    ticks_inside = t->ticks() - before;
  });
  raise(SIGUSR1);
  CHECK(in_handler == 1);
  CHECK(ticks_inside == 0);
  // The same for a signal that arrives while fibers wait.
  auto sends = tendril::spawn([] { raise(SIGUSR1); });
  timespec hour{3600, 0};
  CHECK(nanosleep(&hour, nullptr) == -1);
  CHECK(in_handler == 2);
  mine.await(2);
  signal(SIGUSR1, SIG_DFL);
}

TEST_CASE("fork in the main fiber: the child goes on alone") {
  ticker t;
  t.await(2);
  int p[2];
  REQUIRE(pipe(p) == 0);
  auto reader = tendril::spawn([&] {
    char b;
    return read(p[0], &b, 1);
  });
  tendril::yield();
  pid_t c = child([&] {
    long before = t.ticks();
    usleep(20'000);
    if (t.ticks() != before) return 1;  // the parent's fibers do not run in the child
    if (tendril::spawn([] { return usleep(1000) + 5; }).get() != 5) return 2;
    int q[2];
    if (pipe(q)) return 3;
    auto r = tendril::spawn([&] {
      char b;
      return read(q[0], &b, 1);
    });
    tendril::yield();
    if (write(q[1], "y", 1) != 1 || r.get() != 1) return 4;
    try {
      reader.get();
      return 5;
    } catch (const tendril::error&) {}
    if (!reader.ready()) return 6;
    addrinfo* found;
    if (tendril::spawn([&] { return getaddrinfo("localhost", nullptr, nullptr, &found); }).get())
      return 7;
    if (tendril::spawn([] { return system("exit 3"); }).get() != 3 << 8) return 8;
    return 0;
  });
  CHECK(status_of(c) == 0);
  t.await(2);
  CHECK_FALSE(reader.ready());
  REQUIRE(write(p[1], "x", 1) == 1);
  CHECK(reader.get() == 1);
  close(p[0]);
  close(p[1]);
}

TEST_CASE("fork in a fiber: only that one lives on in the child") {
  ticker t;
  bool in_child = false;
  pid_t parent = getpid();
  auto forks = tendril::spawn([&]() -> int {
    pid_t c = fork();
    if (c == 0) {
      in_child = true;
      usleep(2000);
      auto mine = tendril::spawn([] {
        usleep(1000);
        return 3;
      });
      int r = mine.get();
      FILE* f = popen("echo 4", "r");
      r += f ? fgetc(f) - '0' : 100;
      if (f) pclose(f);
      // The task, which is the child's last fiber, returns.
      _exit(getpid() != parent ? r : 99);
    }
    return status_of(c);
  });
  CHECK(forks.get() == 7);
  CHECK_FALSE(in_child);
  t.await(2);
}

TEST_CASE("a child whose forking fiber returns exits cleanly") {
  int p[2];
  REQUIRE(pipe(p) == 0);
  pid_t c = -1;
  auto forks = tendril::spawn([&] {
    fflush(stdout);
    c = fork();
    if (c == 0) {
      close(1);
      close(2);
      if (write(p[1], "x", 1) != 1) _exit(9);
    }
  });
  forks.join();
  REQUIRE(c > 0);
  CHECK(status_of(c) == 0);
  char b;
  CHECK(read(p[0], &b, 1) == 1);
  close(p[0]);
  close(p[1]);
}

TEST_CASE("exit with unfinished fibers, and in a fiber") {
  for (bool in_fiber : {false, true}) {
    pid_t c = child([&] {
      close(2);
      static tendril::task<void> never, looks;
      never = tendril::spawn([] { pause(); });
      looks = tendril::spawn([] {
        addrinfo* found;
        for (;;) {
          if (getaddrinfo("localhost", nullptr, nullptr, &found) == 0) freeaddrinfo(found);
        }
      });
      usleep(2000);
      if (in_fiber) tendril::spawn([] { exit(6); }).join();
      exit(5);
      return 0;
    });
    CHECK(status_of(c) == (in_fiber ? 6 : 5));
  }
}

TEST_CASE("a fiber that forks many children, among busy fibers") {
  ticker t;
  std::vector<tendril::task<int>> all;
  for (int i = 0; i < 20; i++) {
    all.push_back(tendril::spawn([i] {
      usleep(useconds_t(i * 100));
      pid_t c = fork();
      if (c == 0) {
        usleep(1000);
        _exit(i);
      }
      return status_of(c);
    }));
  }
  for (int i = 0; i < 20; i++) CHECK(all[size_t(i)].get() == i);
}

TEST_CASE("calls in vfork children are the C library's while fibers wait") {
  ticker t;
  for (int i = 0; i < 20; i++) {
    pid_t c = vfork();
    if (c == 0) {
      timespec a_while{0, 1'000'000};
      for (int k = 0; k < 100; k++) {
        if (write(-1, "", 1) != -1) _exit(1);
      }
      _exit(nanosleep(&a_while, nullptr) == 0 ? 13 : 1);
    }
    CHECK(status_of(c) == 13);
  }
  t.await(2);
}

TEST_CASE("disk flushes and cold reads let others run") {
  temporary_file file;
  std::string data(1 << 20, 'x');
  ticker t;
  auto flush = tendril::spawn([&] {
    int r = 0;
    for (int i = 0; i < 5; i++) {
      r += write(file.fd, data.data(), data.size()) != ssize_t(data.size());
      r += fsync(file.fd) + fdatasync(file.fd) + syncfs(file.fd);
    }
    return r;
  });
  CHECK(flush.get() == 0);
}

TEST_CASE("threads without fibers of their own, beside a hub") {
  ticker t;
  std::atomic<int> good{0};
  std::vector<std::thread> all;
  for (int i = 0; i < 4; i++) {
    all.emplace_back([&] {
      int p[2];
      char b;
      timespec a_while{0, 1'000'000};
      for (int k = 0; k < 50; k++) {
        good += pipe(p) == 0 && write(p[1], "x", 1) == 1 && read(p[0], &b, 1) == 1 &&
                nanosleep(&a_while, nullptr) == 0;
        close(p[0]);
        close(p[1]);
      }
    });
  }
  t.await(5);
  for (auto& a : all) a.join();
  CHECK(good == 200);
}

TEST_CASE("waits leave no descriptor behind") {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR2);
  timespec soon{0, 1'000'000};
  int before = 0;
  for (int round = 0; round < 3; round++) {
    tendril::spawn([&] {
      clock_nanosleep(CLOCK_BOOTTIME, 0, &soon, nullptr);
      sigtimedwait(&set, nullptr, &soon);
      system("true");
      pclose(popen("true", "r"));
      status_of(child([] { return 0; }));
    }).join();
    if (round == 0) before = descriptors();
  }
  CHECK(descriptors() == before);
}
