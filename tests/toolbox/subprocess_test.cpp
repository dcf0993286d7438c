// Child processes, with the semantics of Python's subprocess (test_subprocess) and gevent's.
#include <doctest/doctest.h>
#include <tendril/subprocess.hpp>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <fstream>
#include <stdexcept>

#include "error_of.hpp"
#include "ticker.hpp"

using namespace tendril;
using namespace std::chrono_literals;

namespace {

using args = std::vector<std::string>;
args sh(const std::string& script) { return {"sh", "-c", script}; }

}  // namespace

TEST_SUITE_BEGIN("subprocess");

TEST_CASE("a child's exit status is returned, or minus the signal that ended it") {
  CHECK(subprocess(sh("exit 0")).wait() == 0);
  CHECK(subprocess(sh("exit 42")).wait() == 42);
  CHECK(subprocess(sh("kill -9 $$")).wait() == -9);
}

TEST_CASE("poll() returns the status only when the process has ended") {
  subprocess p(sh("read x; exit 3"), {.in = redirect::pipe});
  CHECK(p.poll() == std::nullopt);
  CHECK(p.wait(1ms) == std::nullopt);
  p.in.write("go\n");
  p.in.flush();
  CHECK(p.wait() == 3);
  CHECK(p.poll() == 3);
  CHECK(p.wait() == 3);
}

TEST_CASE("while a fiber waits for a child, others run; several may wait for one") {
  subprocess p(sh("read x; exit 5"), {.in = redirect::pipe});
  auto a = spawn([&] { return p.wait(); }), b = spawn([&] { return p.wait(); });
  spawn([&] {
    p.in.write("go\n");
    p.in.flush();
  });
  CHECK(a.get() == 5);
  CHECK(b.get() == 5);
}

TEST_CASE("a kill ends the wait, and not the child") {
  subprocess p(sh("read x"), {.in = redirect::pipe});
  auto waits = spawn([&] { p.wait(); });
  yield();
  waits.kill();
  CHECK(p.poll() == std::nullopt);
  p.kill();
  CHECK(p.wait() == -SIGKILL);
}

TEST_CASE("communicate feeds the input and collects output and errors") {
  subprocess p(sh("cat; echo oops >&2"),
               {.in = redirect::pipe, .out = redirect::pipe, .err = redirect::pipe});
  auto [out, err] = p.communicate("some text");
  CHECK(out == "some text");
  CHECK(err == "oops\n");
  CHECK(p.poll() == 0);
}

TEST_CASE("communicate transfers more than pipes hold, both ways at once, while others run") {
  ticker other;
  std::string large(1 << 20, 'x');
  subprocess p({"cat"}, {.in = redirect::pipe, .out = redirect::pipe});
  CHECK(p.communicate(large).first == large);
}

TEST_CASE("a child that does not read its input is no error, and no SIGPIPE") {
  subprocess p(sh("exec <&-; exit 7"), {.in = redirect::pipe});
  p.communicate(std::string(1 << 20, 'x'));
  CHECK(p.poll() == 7);
  sigset_t pending;
  sigpending(&pending);
  CHECK_FALSE(sigismember(&pending, SIGPIPE));
}

TEST_CASE("communicate past its time-out can be called again, and nothing is lost") {
  int gate[2];
  REQUIRE(::pipe2(gate, O_CLOEXEC) == 0);
  subprocess p(sh("echo first; read x <&2; cat"),
               {.in = redirect::pipe, .out = redirect::pipe, .err = gate[0]});
  CHECK(error_of([&] { p.communicate("input", 20ms); }) == ETIMEDOUT);
  CHECK(p.poll() == std::nullopt);
  REQUIRE(::write(gate[1], "\n", 1) == 1);
  CHECK(p.communicate().first == "first\ninput");
  ::close(gate[0]);
  ::close(gate[1]);
}

TEST_CASE("errors can be redirected to the output") {
  subprocess p(sh("echo a; echo b >&2"), {.out = redirect::pipe, .err = redirect::output});
  CHECK(p.communicate().first == "a\nb\n");
  CHECK_THROWS_AS(subprocess(args{"true"}, {.out = redirect::output}), std::invalid_argument);
}

TEST_CASE("output can go to a descriptor of the parent, or to /dev/null") {
  int p[2];
  REQUIRE(::pipe2(p, O_CLOEXEC) == 0);
  CHECK(subprocess(sh("echo here; echo there >&2"), {.out = p[1], .err = redirect::null}).wait() ==
        0);
  ::close(p[1]);
  stream s = stream::adopt(p[0]);
  CHECK(s.read_all() == "here\n");
  CHECK(subprocess(sh("read x"), {.in = redirect::null}).wait() == 1);
  subprocess swapped(sh("echo out; test /proc/self/fd/1 -ef /proc/self/fd/2 && echo same"),
                     {.out = redirect::pipe, .err = 1 /* ours */});
  CHECK(swapped.communicate().first == "out\n");
}

TEST_CASE("a child can be talked to in turn") {
  subprocess p({"cat"}, {.in = redirect::pipe, .out = redirect::pipe});
  for (auto* line : {"one", "two"}) {
    p.in.write(std::string(line) + "\n");
    p.in.flush();
    CHECK(p.out.read_line() == line);
  }
  p.in.end_writing();
  CHECK(p.out.read_line() == std::nullopt);
  CHECK(p.wait() == 0);
}

TEST_CASE("directory, environment and program can be chosen") {
  CHECK(subprocess::check_output(args{"pwd"}, {.options = {.directory = "/"}}) == "/\n");
  CHECK(subprocess::check_output(args{"/usr/bin/env"},
                                 {.options = {.environment = {{{"A", "1"}}}}}) == "A=1\n");
  CHECK(subprocess::check_output(args{"named", "-c", "echo $0"},
                                 {.options = {.executable = "/bin/sh"}}) == "named\n");
}

TEST_CASE("a child may have a session or a process group of its own") {
  auto group_of_child = [](const subprocess_options& o) {
    subprocess_options with_pipes = o;
    with_pipes.in = redirect::pipe;
    subprocess p(sh("read x"), with_pipes);
    bool own = ::getpgid(p.pid()) == p.pid();
    bool session = ::getsid(p.pid()) == p.pid();
    p.communicate();
    return std::pair(own, session);
  };
  CHECK(group_of_child({}) == std::pair(false, false));
  CHECK(group_of_child({.new_group = true}) == std::pair(true, false));
  CHECK(group_of_child({.new_session = true}) == std::pair(true, true));
}

TEST_CASE("a program that cannot be started throws the reason") {
  CHECK(error_of([] { subprocess(args{"/nonexistent/program"}); }) == ENOENT);
  CHECK(error_of([] { subprocess(args{"/etc/passwd"}); }) == EACCES);
  CHECK(error_of([] { subprocess(args{"true"}, {.directory = "/nonexistent"}); }) == ENOENT);
  CHECK_THROWS_AS(subprocess(args{}), std::invalid_argument);
}

TEST_CASE("a child has no signal blocked, and does not ignore SIGPIPE") {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  auto old = ::signal(SIGPIPE, SIG_IGN);
  std::string out = subprocess::check_output(sh("grep -E 'SigBlk|SigIgn' /proc/self/status"));
  ::signal(SIGPIPE, old);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  CHECK(out.find("SigBlk:\t0000000000000000") != std::string::npos);
  CHECK((std::stoul(out.substr(out.find("SigIgn:") + 8), nullptr, 16) >> (SIGPIPE - 1) & 1) == 0);
}

TEST_CASE("signals can be sent, and none is sent after the end") {
  subprocess p(sh("read x"), {.in = redirect::pipe});
  p.terminate();
  CHECK(p.wait() == -SIGTERM);
  p.kill();
}

TEST_CASE("run returns the status, and check throws if the child failed") {
  auto done = subprocess::run(sh("cat; echo e >&2; exit 3"), {.input = "in", .capture = true});
  CHECK(done.status == 3);
  CHECK(done.output == "in");
  CHECK(done.errors == "e\n");
  CHECK_THROWS_WITH_AS(done.check(), "sh ended with status 3", subprocess_error);
  CHECK_THROWS_WITH_AS(subprocess::check_output(sh("kill -15 $$")), "sh was ended by signal 15",
                       subprocess_error);
}

TEST_CASE("run kills the child past its time-out, and when it is killed itself") {
  CHECK(error_of([] { (void)subprocess::run(sh("exec sleep 1000"), {.timeout = 5ms}); }) ==
        ETIMEDOUT);
  auto t = spawn([] { (void)subprocess::run({"sleep", "1000"}); });
  ticker other;
  other.await(2);
  t.kill();
  CHECK(t.ready());
}

TEST_CASE("a child whose object is destroyed is reaped later") {
  pid_t left;
  {
    subprocess p(sh("read x"), {.in = redirect::pipe});
    left = p.pid();
  }  // closes the child's input, so the child ends
  siginfo_t info;
  REQUIRE(posix::waitid(P_PID, id_t(left), &info, WEXITED | WNOWAIT) == 0);
  subprocess(sh("exit 0")).wait();
  CHECK(::kill(left, 0) < 0);
}

TEST_CASE("many children run at once") {
  std::vector<task<std::string>> tasks;
  for (int i = 0; i < 20; i++) {
    tasks.push_back(
        spawn([i] { return subprocess::check_output(sh("echo " + std::to_string(i))); }));
  }
  for (int i = 0; i < 20; i++) CHECK(tasks[std::size_t(i)].get() == std::to_string(i) + "\n");
}

TEST_SUITE_END();
