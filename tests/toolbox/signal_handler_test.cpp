// Signal handlers that run as tasks, with the semantics of gevent.signal_handler (test__signal).
#include <doctest/doctest.h>
#include <tendril/signal_handler.hpp>

#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <iostream>
#include <stdexcept>
#include <thread>

#include "ticker.hpp"

using namespace tendril;
using namespace std::chrono_literals;

namespace {

// Lets the watchers, which wait for descriptors, process what has been delivered.
void settle() { ticker().await(3); }
sighandler_t installed(int signal) {
  struct sigaction a;
  posix::sigaction(signal, nullptr, &a);
  return a.sa_handler;
}

}  // namespace

TEST_SUITE_BEGIN("signal_handler");

TEST_CASE("a delivery runs the function, with its arguments, in a task of its own that may wait") {
  std::string got;
  any_fiber ran_in, main = current_fiber();
  signal_handler h(
      SIGUSR1,
      [&](const std::string& s) {
        ran_in = current_fiber();
        sleep(1ms);
        got = s;
      },
      "argument");
  ::raise(SIGUSR1);
  CHECK(got.empty());
  while (got.empty()) sleep(1ms);
  CHECK(got == "argument");
  CHECK_FALSE(ran_in == main);
}

TEST_CASE("each delivery calls once") {
  int calls = 0;
  signal_handler h(SIGUSR1, [&] { calls++; });
  for (int i = 0; i < 3; i++) ::raise(SIGUSR1);
  settle();
  CHECK(calls == 3);
  ::raise(SIGUSR1);
  settle();
  CHECK(calls == 4);
}

TEST_CASE("a delivery that a cancelled handler has not handled yet is not the next one's") {
  int calls = 0;
  {
    signal_handler gone(SIGUSR1, [&] { calls++; });
    ::raise(SIGUSR1);
  }
  signal_handler next(SIGUSR1, [&] { calls += 10; });
  settle();
  CHECK(calls == 0);
  ::raise(SIGUSR1);
  settle();
  CHECK(calls == 10);
}

TEST_CASE("a waiting main fiber goes on waiting, while the handler runs") {
  bool ran = false;
  signal_handler h(SIGALRM, [&] { ran = true; });
  itimerval soon{{0, 0}, {0, 1000}};
  setitimer(ITIMER_REAL, &soon, nullptr);
  auto other = spawn([&] {
    while (!ran) sleep(1ms);
    return 1;
  });
  CHECK(other.get() == 1);
}

TEST_CASE("several handlers of one signal all run, and each can be cancelled") {
  int a = 0, b = 0;
  signal_handler first(SIGUSR1, [&] { a++; });
  {
    signal_handler second(SIGUSR1, [&] { b++; });
    ::raise(SIGUSR1);
    settle();
  }
  ::raise(SIGUSR1);
  settle();
  CHECK(a == 2);
  CHECK(b == 1);
}

TEST_CASE("the last handler's cancellation restores the previous action") {
  sighandler_t mine = [](int) {};
  posix::signal(SIGUSR2, mine);
  {
    signal_handler h(SIGUSR2, [] {});
    CHECK((installed(SIGUSR2) != mine));
    h.cancel();
    CHECK((installed(SIGUSR2) == mine));
    h.cancel();
  }
  posix::signal(SIGUSR2, SIG_DFL);
}

TEST_CASE("an exception of the function ends its task, and the next delivery calls again") {
  int calls = 0;
  signal_handler h(SIGUSR1, [&] {
    if (++calls == 1) throw std::runtime_error("in a handler");
  });
  ::raise(SIGUSR1);
  settle();
  ::raise(SIGUSR1);
  settle();
  CHECK(calls == 2);
}

TEST_CASE(
    "a signal to another kernel thread runs the function on the thread that made the handler") {
  std::thread::id ran_on;
  bool ran = false;
  signal_handler h(SIGUSR1, [&] {
    ran_on = std::this_thread::get_id();
    ran = true;
  });
  std::thread other([] { ::pthread_kill(::pthread_self(), SIGUSR1); });
  while (!ran) sleep(1ms);
  other.join();
  CHECK(ran_on == std::this_thread::get_id());
}

TEST_CASE("handlers may be made and cancelled again and again") {
  for (int i = 0; i < 100; i++) {
    int calls = 0;
    signal_handler h(SIGUSR1, [&] { calls++; });
    ::raise(SIGUSR1);
    while (calls == 0) sleep(1ms);
    CHECK(calls == 1);
  }
}

TEST_CASE("a signal that cannot be caught is refused, and so is the seventeenth handler") {
  CHECK_THROWS_AS(signal_handler(SIGKILL, [] {}), std::system_error);
  CHECK_THROWS_AS(signal_handler(0, [] {}), std::system_error);
  CHECK_THROWS_AS(signal_handler(1000, [] {}), std::system_error);
  std::vector<std::unique_ptr<signal_handler>> many;
  for (int i = 0; i < 16; i++) many.push_back(std::make_unique<signal_handler>(SIGUSR1, [] {}));
  CHECK_THROWS_AS(signal_handler(SIGUSR1, [] {}), std::system_error);
}

#if !defined(__SANITIZE_THREAD__)
TEST_CASE(
    "a signal in the child of a fork does not reach the parent; the child may have its own "
    "handlers") {
  int calls = 0;
  signal_handler h(SIGUSR1, [&] { calls++; });
  std::cout << std::flush;
  pid_t child = fork();
  if (child == 0) {
    ::raise(SIGUSR1);
    int mine = 0;
    signal_handler own(SIGUSR1, [&] { mine++; });
    ::raise(SIGUSR1);
    while (mine == 0) sleep(1ms);
    _exit(mine == 1 ? 7 : 1);
  }
  int status = -1;
  REQUIRE(posix::waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 7);
  settle();
  CHECK(calls == 0);
  ::raise(SIGUSR1);
  settle();
  CHECK(calls == 1);
}

TEST_CASE("a signal leaves errno alone, even where the program has closed all descriptors") {
  std::cout << std::flush;
  pid_t child = fork();
  if (child == 0) {
    signal_handler h(SIGUSR1, [] {});
    ::syscall(SYS_close_range, 3, ~0U, 0);
    errno = ENOTTY;
    ::raise(SIGUSR1);
    _exit(errno == ENOTTY ? 7 : 1);
  }
  int status = -1;
  REQUIRE(posix::waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 7);
}
#endif

TEST_SUITE_END();
