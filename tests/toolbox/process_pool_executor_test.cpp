// Process pools with the semantics of concurrent.futures (test_concurrent_futures), and the
// serialization of values.
#include <doctest/doctest.h>
#include <tendril/as_completed.hpp>
#include <tendril/process_pool_executor.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "written_to.hpp"

using namespace tendril;
using namespace std::chrono_literals;

namespace {

int square(int x) { return x * x; }
struct point {
  int x, y;
  bool operator==(const point&) const = default;
};
struct person {
  std::string name;
  int age;
  bool operator==(const person&) const = default;
};
struct odd_error : std::exception {
  const char* what() const noexcept override { return "odd"; }
};

// A pipe that a worker can wait for. The worker has none of the program's descriptors, but can open
// them through /proc.
struct gate {
  int p[2];
  gate() { REQUIRE(::pipe2(p, O_CLOEXEC) == 0); }
  ~gate() {
    ::close(p[0]);
    ::close(p[1]);
  }
  std::string path() const {
    return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(p[0]);
  }
  void open() { posix::write(p[1], "x", 1); }
};
char wait_at(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY);
  char c = 0;
  return fd >= 0 && ::read(fd, &c, 1) == 1 ? c : '?';
}

template <class E>
std::exception_ptr travelled_error(const E& e) {
  byte_sink to;
  detail::write_error(to, std::make_exception_ptr(e));
  byte_source from(to.bytes());
  return detail::read_error(from);
}

template <class T>
T travelled(const T& value) {
  byte_sink to;
  to << value;
  byte_source from(to.bytes());
  T back = from.read<T>();
  CHECK(from.left() == 0);
  return back;
}

}  // namespace

template <>
struct tendril::serializer<person> {
  static void write(byte_sink& to, const person& p) { to << p.name << p.age; }
  static person read(byte_source& from) {
    auto name = from.read<std::string>();
    return {std::move(name), from.read<int>()};
  }
};

TEST_SUITE_BEGIN("serializer");

TEST_CASE("plain values, strings and containers come back as they were") {
  CHECK(travelled(42) == 42);
  CHECK(travelled(point{1, 2}) == point{1, 2});
  CHECK(travelled(std::string("a\0b", 3)) == std::string("a\0b", 3));
  CHECK(travelled(std::vector<std::string>{"a", "", "c"}) ==
        std::vector<std::string>{"a", "", "c"});
  CHECK(travelled(std::map<std::string, std::vector<int>>{{"x", {1, 2}}, {"y", {}}}).at("x") ==
        std::vector{1, 2});
  CHECK(travelled(std::set<int>{3, 1}) == std::set<int>{1, 3});
  CHECK(travelled(std::pair<int, std::string>(1, "b")).second == "b");
  CHECK(travelled(std::tuple<std::string, int>("a", 2)) == std::tuple<std::string, int>("a", 2));
  CHECK(travelled(std::optional<std::string>("a")) == "a");
  CHECK(travelled(std::optional<std::string>()) == std::nullopt);
  CHECK(std::get<std::string>(travelled(std::variant<int, std::string>("v"))) == "v");
}

TEST_CASE("a type with a serializer of its own is passed, also in containers") {
  CHECK(travelled(std::vector<person>{{"Ada", 36}}) == std::vector<person>{{"Ada", 36}});
}

TEST_CASE("pointers, references and views are refused when compiling") {
  CHECK_FALSE(serializable<int*>);
  CHECK_FALSE(serializable<const char*>);
  CHECK_FALSE(serializable<std::string_view>);
  CHECK_FALSE(serializable<std::vector<int*>>);
  CHECK_FALSE(serializable<std::pair<int, std::string_view>>);
  CHECK(serializable<int (*)(int)>);
}

TEST_CASE("bytes that end too early are an error") {
  byte_sink to;
  to << std::string("abc");
  byte_source from(std::string_view(to.bytes()).substr(0, 9));
  CHECK_THROWS_AS(from.read<std::string>(), error);
  byte_source half(std::string_view(to.bytes()).substr(0, sizeof(int) / 2));
  CHECK_THROWS_AS(half.read<int>(), error);
  CHECK(half.left() == sizeof(int) / 2);
  // A length that nothing could have.
  byte_sink long_;
  long_ << SIZE_MAX << 'a';
  CHECK_THROWS_AS(byte_source(long_.bytes()).read<std::string>(), error);
  CHECK_THROWS_AS(byte_source(long_.bytes()).read<std::vector<std::string>>(), error);
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("process_pool_executor");

TEST_CASE("a call runs in another process") {
  process_pool_executor pool(2);
  CHECK(pool.submit(square, 5).get() == 25);
  CHECK(pool.submit([] { return ::getpid(); }).get() != ::getpid());
  int base = 40;
  CHECK(pool.submit([base](int x) { return base + x; }, 2).get() == 42);
  pool.submit([] {}).get();
}

TEST_CASE("arguments and results of many kinds are passed") {
  process_pool_executor pool(1);
  auto joined = pool.submit(
      [](const std::vector<std::string>& v, const person& p) {
        std::string s = p.name;
        for (auto& x : v) s += x;
        return std::pair(s, p.age);
      },
      std::vector<std::string>{"a", "b"}, person{"Ada", 36});
  CHECK(joined.get() == std::pair(std::string("Adaab"), 36));
}

TEST_CASE("large arguments and results are passed") {
  process_pool_executor pool(1);
  std::string large(3 << 20, 'x');
  CHECK(pool.submit([](std::string s) { return s + s; }, large).get() == large + large);
}

TEST_CASE("an exception of a call comes back with its own type, or names its type") {
  process_pool_executor pool(1);
  CHECK_THROWS_WITH_AS(pool.submit([] { throw std::runtime_error("r"); }).get(), "r",
                       std::runtime_error);
  CHECK_THROWS_WITH_AS(pool.submit([] { throw std::out_of_range("o"); }).get(), "o",
                       std::out_of_range);
  CHECK_THROWS_WITH_AS(pool.submit([] { throw tendril::error("e"); }).get(), "e", tendril::error);
  CHECK_THROWS_AS(pool.submit([] { throw std::bad_alloc(); }).get(), std::bad_alloc);
  try {
    pool.submit([] { throw std::system_error(ENOENT, std::generic_category(), "open"); }).get();
    FAIL("nothing was thrown");
  } catch (const std::system_error& e) {
    CHECK(e.code() == std::errc::no_such_file_or_directory);
    CHECK(std::string(e.what()) == "open: No such file or directory");
  }
  try {
    pool.submit([] { throw odd_error(); }).get();
    FAIL("nothing was thrown");
  } catch (const remote_error& e) {
    CHECK(e.type() == "(anonymous namespace)::odd_error");
    CHECK(std::string(e.what()) == "(anonymous namespace)::odd_error: odd");
  }
  CHECK_THROWS_WITH_AS(pool.submit([] { throw 5; }).get(), "int: not a std::exception",
                       remote_error);
  CHECK(pool.submit(square, 2).get() == 4);
}

TEST_CASE_TEMPLATE("each standard exception that is made of a text comes back as itself", E,
                   std::runtime_error, std::logic_error, std::invalid_argument, std::domain_error,
                   std::length_error, std::out_of_range, std::range_error, std::overflow_error,
                   std::underflow_error, tendril::error) {
  std::string type;
  try {
    std::rethrow_exception(travelled_error(E("why")));
  } catch (const std::exception& e) {
    type = typeid(e).name();
    CHECK(std::string(e.what()) == "why");
  }
  CHECK(type == typeid(E).name());
}

TEST_CASE("a system_error of a call keeps its category, and its text if it has one") {
  struct special : std::system_error {
    using std::system_error::system_error;
  };
  std::error_code ours(ENOENT, std::generic_category()), systems(EPERM, std::system_category());
  for (const auto& code : {ours, systems}) {
    for (const auto& sent : {std::system_error(code, "open"), std::system_error(code)}) {
      try {
        std::rethrow_exception(travelled_error(sent));
      } catch (const std::system_error& e) {
        CHECK(&e.code().category() == &code.category());
        CHECK(e.code() == code);
        CHECK(std::string(e.what()) == sent.what());
      }
    }
  }
  // A type of its own cannot be made again.
  CHECK_THROWS_AS(std::rethrow_exception(travelled_error(special(ours))), remote_error);
}

TEST_CASE("while a fiber waits for a call, others run") {
  process_pool_executor pool(1);
  gate g;
  auto waits = spawn([&] { return run_in_executor(pool, wait_at, g.path()); });
  spawn([&] { g.open(); });
  CHECK(waits.get() == 'x');
}

TEST_CASE("a process is made when there is a call for it, and used again") {
  process_pool_executor pool(4);
  CHECK(pool.workers() == 0);
  std::set<pid_t> pids;
  for (int i = 0; i < 10; i++) pids.insert(pool.submit([] { return ::getpid(); }).get());
  CHECK(pids.size() <= 4);
  CHECK(pool.workers() == pids.size());
}

TEST_CASE("a worker has none of the program's descriptors") {
  int p[2];
  REQUIRE(::pipe2(p, O_CLOEXEC) == 0);
  process_pool_executor pool(1);
  ::close(p[1]);
  pool.submit([] {}).get();
  char c;
  CHECK(posix::read(p[0], &c, 1) == 0);  // the end of the pipe, although the pool's processes exist
  ::close(p[0]);
}

TEST_CASE("what the program had printed, and what calls print, is written once") {
  CHECK(written_to(1, [] {
          std::printf("before ");  // is in the buffer when the processes are forked
          {
            process_pool_executor pool(1);
            for (int i = 0; i < 2; i++) pool.submit([] { std::printf("call "); }).get();
          }
          std::printf("after");
        }) == "before call call after");
}

TEST_CASE("a worker reads nothing from standard input") {
  int p[2], before = ::dup(0);
  REQUIRE(::pipe(p) == 0);
  REQUIRE(::write(p[1], "x", 1) == 1);
  ::dup2(p[0], 0);
  {
    process_pool_executor pool(1);
    CHECK(pool.submit([] {
                char c;
                return int(::read(0, &c, 1));
              })
              .get() == 0);
  }
  char c = 0;
  CHECK(::read(0, &c, 1) == 1);
  CHECK(c == 'x');
  ::dup2(before, 0);
  for (int fd : {p[0], p[1], before}) ::close(fd);
}

TEST_CASE("map gives results in order") {
  process_pool_executor pool(3);
  std::vector<int> in(50), out;
  std::iota(in.begin(), in.end(), 0);
  for (int x : pool.map(square, in)) out.push_back(x);
  REQUIRE(out.size() == 50);
  for (int i = 0; i < 50; i++) CHECK(out[std::size_t(i)] == i * i);
}

TEST_CASE("as_completed gives each call once") {
  process_pool_executor pool(2);
  std::vector<future<int>> f;
  for (int i = 0; i < 20; i++) f.push_back(pool.submit(square, i));
  std::set<int> got;
  for (auto& x : as_completed(f)) got.insert(x.get());
  CHECK(got.size() == 20);
}

TEST_CASE("a worker that dies breaks the pool") {
  process_pool_executor pool(1);
  auto dies = pool.submit([] { ::_exit(3); });
  auto next = pool.submit(square, 1);
  CHECK_THROWS_AS(dies.get(), broken_process_pool);
  CHECK_THROWS_AS(next.get(), broken_process_pool);
  CHECK_THROWS_AS(pool.submit(square, 1), broken_process_pool);
  pool.shutdown();
}

TEST_CASE("shutdown makes the submitted calls, or cancels them, and accepts no more") {
  process_pool_executor a(1), b(1);
  std::vector<future<int>> f, g;
  for (int i = 0; i < 10; i++) f.push_back(a.submit(square, i));
  a.shutdown();
  for (int i = 0; i < 10; i++) CHECK(f[std::size_t(i)].get() == i * i);
  CHECK_THROWS_WITH_AS(a.submit(square, 1), "the executor was shut down", error);
  gate busy;
  auto running = b.submit(wait_at, busy.path());
  for (int i = 0; i < 10; i++) g.push_back(b.submit(square, i));
  while (!running.running()) sleep(1ms);
  b.shutdown(false, true);
  for (auto& x : g) CHECK(x.cancelled());
  busy.open();
  b.shutdown();
  CHECK(running.get() == 'x');
}

TEST_CASE("calls in workers may use fibers") {
  process_pool_executor pool(1);
  CHECK(pool.submit([] {
              auto t = spawn([] {
                sleep(1ms);
                return 4;
              });
              return t.get();
            })
            .get() == 4);
}

TEST_CASE("a pool can be made in a task") {
  CHECK(spawn([] {
          process_pool_executor pool(1);
          return pool.submit(square, 6).get();
        }).get() == 36);
}

TEST_SUITE_END();
