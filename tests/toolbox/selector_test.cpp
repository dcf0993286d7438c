// Selectors, with the semantics of Python's (test_selectors).
#include <doctest/doctest.h>
#include <tendril/net/socket.hpp>
#include <tendril/selector.hpp>
#include <tendril/task.hpp>

#include <fcntl.h>

#include <stdexcept>

#include "error_of.hpp"

using namespace tendril;
using namespace std::chrono_literals;

namespace {

using by_name = selector<std::string>;
struct pair {
  net::socket a, b;
  pair() { std::tie(a, b) = net::socket_pair(); }
  int rd() const { return a.descriptor(); }
  int wr() const { return b.descriptor(); }
};

}  // namespace

TEST_SUITE_BEGIN("selector");

TEST_CASE("a descriptor is registered with its events and data, once") {
  by_name s;
  pair p;
  auto& k = s.register_(p.rd(), s.read, "data");
  CHECK(k.fd == p.rd());
  CHECK(k.events == s.read);
  CHECK(k.data == "data");
  CHECK_THROWS_AS(s.register_(p.rd(), s.read), error);
  CHECK_THROWS_AS(s.register_(p.wr(), 0), std::invalid_argument);
  CHECK_THROWS_AS(s.register_(p.wr(), 8), std::invalid_argument);
}

TEST_CASE("a descriptor that cannot be watched is refused") {
  by_name s;
  CHECK(error_of([&] { s.register_(99999, s.read); }) == EBADF);
  int file = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  CHECK(error_of([&] { s.register_(file, s.read); }) == EPERM);
  CHECK(s.get_map().empty());
  ::close(file);
}

TEST_CASE("unregister returns the registration, also after the descriptor was closed") {
  by_name s;
  pair p;
  int fd = p.rd();
  s.register_(fd, s.read, "x");
  p.a.close();
  CHECK(s.unregister(fd).data == "x");
  CHECK_THROWS_AS(s.unregister(fd), error);
}

TEST_CASE("modify changes events and data") {
  by_name s;
  pair p;
  s.register_(p.rd(), s.read, "one");
  CHECK(s.select(0s).empty());
  auto& k = s.modify(p.rd(), s.write, "two");
  CHECK(k.data == "two");
  auto ready = s.select();
  REQUIRE(ready.size() == 1);
  CHECK(ready[0].second == s.write);
  CHECK(ready[0].first.data == "two");
  CHECK_THROWS_AS(s.modify(p.wr(), s.read, ""), error);
  CHECK_THROWS_AS(s.modify(p.rd(), 0, ""), std::invalid_argument);
}

TEST_CASE("get_key and get_map return the registrations") {
  by_name s;
  pair p;
  s.register_(p.rd(), s.read, "r");
  s.register_(p.wr(), s.write, "w");
  CHECK(s.get_key(p.rd()).data == "r");
  CHECK(s.get_map().size() == 2);
  CHECK(s.get_map().at(p.wr()).events == s.write);
  s.unregister(p.rd());
  CHECK_THROWS_AS(s.get_key(p.rd()), error);
}

TEST_CASE("select returns the ready descriptors and their events") {
  by_name s;
  pair p;
  s.register_(p.rd(), s.read, "r");
  s.register_(p.wr(), s.read | s.write, "w");
  auto ready = s.select(0s);
  REQUIRE(ready.size() == 1);
  CHECK(ready[0].first.data == "w");
  CHECK(ready[0].second == s.write);
  p.b.send_all("x");
  CHECK(s.select().size() == 2);
}

TEST_CASE("a select that waits lets others run, and wakes when one is ready") {
  by_name s;
  pair p;
  s.register_(p.rd(), s.read, "r");
  auto writes = spawn([&] { p.b.send_all("x"); });
  auto ready = s.select();
  CHECK(writes.ready());
  REQUIRE(ready.size() == 1);
  CHECK(ready[0].first.fd == p.rd());
}

TEST_CASE("a select in time finds nothing when nothing is ready") {
  by_name s;
  CHECK(s.select(1ms).empty());
  pair p;
  s.register_(p.rd(), s.read);
  CHECK(s.select(1ms).empty());
  CHECK(s.select(-1s).empty());
}

TEST_CASE("a hang-up makes all requested events ready") {
  by_name s;
  pair p;
  s.register_(p.rd(), s.read);
  p.b.close();
  auto ready = s.select();
  REQUIRE(ready.size() == 1);
  CHECK(ready[0].second == s.read);
}

TEST_CASE("a hang-up or an error that comes alone makes a descriptor ready, too") {
  by_name s;
  int p[2];
  REQUIRE(pipe(p) == 0);
  SUBCASE("an empty pipe without writers") {
    close(p[1]);
    s.register_(p[0], s.read);
    auto ready = s.select();
    REQUIRE(ready.size() == 1);
    CHECK(ready[0].second == s.read);
    close(p[0]);
  }
  SUBCASE("a full pipe without readers") {
    fcntl(p[1], F_SETFL, O_NONBLOCK);
    std::string some(4096, 'x');
    while (write(p[1], some.data(), some.size()) > 0) {}
    s.register_(p[1], s.write);
    CHECK(s.select(0s).empty());
    close(p[0]);
    auto ready = s.select();
    REQUIRE(ready.size() == 1);
    CHECK(ready[0].second == s.write);
    close(p[1]);
  }
}

TEST_CASE("another fiber may register while one waits") {
  by_name s;
  pair p;
  auto waits = spawn([&] { return s.select().size(); });
  yield();
  s.register_(p.wr(), s.write);
  CHECK(waits.get() == 1);
}

TEST_CASE("a kill ends a select") {
  by_name s;
  auto waits = spawn([&] { (void)s.select(); });
  yield();
  waits.kill();
  CHECK_THROWS_AS(waits.get(), fiber_exit);
}

TEST_CASE("data may be anything") {
  selector<> s;
  pair p;
  s.register_(p.wr(), s.write, 42);
  CHECK(std::any_cast<int>(s.select()[0].first.data) == 42);
}

TEST_CASE("a closed selector has no keys, and accepts none") {
  by_name s;
  pair p;
  s.register_(p.rd(), s.read);
  s.close();
  s.close();
  CHECK(s.get_map().empty());
  CHECK(error_of([&] { s.register_(p.rd(), s.read); }) == EBADF);
  CHECK(error_of([&] { (void)s.select(0s); }) == EBADF);
}

TEST_SUITE_END();
