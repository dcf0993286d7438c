// Sockets, addresses, and connecting to the first address that answers (RFC 8305).
#include <doctest/doctest.h>
#include <tendril/net/create_connection.hpp>
#include <tendril/task.hpp>

#include <fcntl.h>

#include "error_of.hpp"
#include "ticker.hpp"

using namespace tendril;
using namespace std::chrono_literals;
using net::address;

namespace {

// A port that refuses connections: bound, but not listening.
struct refusing {
  net::socket s{AF_INET, SOCK_STREAM};
  refusing() { s.bind(address::loopback(0)); }
  address where() const { return s.local_address(); }
};
// A port that does not answer: its queue of connections is full, so the system drops further ones.
struct hanging {
  net::socket s = net::listen_on(address::loopback(0), 0);
  std::vector<net::socket> queue;
  hanging() {
    for (int i = 0; i < 4; i++) {
      queue.emplace_back(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
      address a = where();
      ::connect(queue.back().descriptor(), a.data(), a.size());
    }
  }
  address where() const { return s.local_address(); }
};

// A connection whose other end echoes.
struct talking {
  net::socket here;
  task<void> there;
  talking() {
    there = spawn([this] {
      net::socket listener = net::listen_on(address::loopback(0));
      where = listener.local_address();
      net::socket s = listener.accept();
      for (std::string data; !(data = s.recv(4096)).empty();) s.send_all(data);
    });
    yield();
    here = net::socket(AF_INET, SOCK_STREAM);
    here.connect(where);
  }
  ~talking() {
    here.close();
    there.join();
  }
  std::string asks(const std::string& question) {
    here.send_all(question);
    return here.recv(4096);
  }
  address where;
};

}  // namespace

TEST_SUITE_BEGIN("net::address");

TEST_CASE("an address is printed in its usual form") {
  CHECK(address::loopback(80).to_string() == "127.0.0.1:80");
  CHECK(address::ip("::1", 443).to_string() == "[::1]:443");
  CHECK(address::ip("fe80::1%lo", 1).to_string() == "[fe80::1%lo]:1");
  CHECK(address::local("/tmp/s").to_string() == "/tmp/s");
  CHECK(address::local(std::string_view("\0name", 5)).to_string() == "@name");
  CHECK(address().to_string() == "");
}

TEST_CASE("addresses have parts, and are equal if their parts are") {
  address a = address::ip("::1", 443);
  CHECK(a.family() == AF_INET6);
  CHECK(a.host() == "::1");
  CHECK(a.port() == 443);
  CHECK(a == address(a.data(), a.size()));
  CHECK_FALSE(a == address::ip("::1", 444));
  CHECK_FALSE(a == address::loopback(443));
}

TEST_CASE("an invalid address is refused") {
  CHECK_THROWS_AS(address::ip("localhost", 1), std::invalid_argument);
  CHECK_THROWS_AS(address::ip("1.2.3", 1), std::invalid_argument);
  CHECK_THROWS_AS(address::ip("::1%nowhere", 1), std::invalid_argument);
  CHECK_THROWS_AS(address::local(std::string(200, 'x')), std::length_error);
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("net::socket");

TEST_CASE("a fiber accepts while another connects, and they talk") {
  net::socket listener = net::listen_on(address::loopback(0));
  auto server = spawn([&] {
    net::socket c = listener.accept();
    c.send_all("hello " + c.recv(100));
    return c.remote_address();
  });
  net::socket s(AF_INET, SOCK_STREAM);
  s.connect(listener.local_address());
  address me = s.local_address();
  s.send_all("you");
  CHECK(s.recv(100) == "hello you");
  CHECK(s.recv(100) == "");
  CHECK(server.get() == me);
}

TEST_CASE("much data is sent to a slow reader, while others run") {
  auto [a, b] = net::socket_pair();
  auto sends = spawn([s = std::move(a)]() mutable { s.send_all(std::string(4 << 20, 'x')); });
  ticker other;
  other.await(3);
  std::size_t got = 0;
  for (std::string s; !(s = b.recv(65536)).empty();) got += s.size();
  CHECK(got == 4u << 20);
}

TEST_CASE("datagrams come with their sender") {
  net::socket a(AF_INET, SOCK_DGRAM), b(AF_INET, SOCK_DGRAM);
  a.bind(address::loopback(0));
  b.bind(address::loopback(0));
  auto answers = spawn([&] {
    auto [data, from] = a.recv_from(100);
    a.send_to(data + "!", from);
  });
  b.send_to("hey", a.local_address());
  auto [data, from] = b.recv_from(100);
  CHECK(data == "hey!");
  CHECK(from == a.local_address());
}

TEST_CASE("local sockets connect by path, also abstract ones") {
  address where = address::local(std::string("\0tendril-test-", 14) + std::to_string(::getpid()));
  net::socket listener = net::listen_on(where);
  CHECK(listener.local_address() == where);
  net::socket s(AF_UNIX, SOCK_STREAM);
  s.connect(where);
  listener.accept().send_all("x");
  CHECK(s.recv(1) == "x");
}

TEST_CASE("errors carry errno") {
  CHECK(error_of([] { net::socket().recv(1); }) == EBADF);
  CHECK(error_of([] { (void)net::socket(AF_INET, SOCK_STREAM).remote_address(); }) == ENOTCONN);
  refusing r;
  CHECK(error_of([&] { net::socket(AF_INET, SOCK_STREAM).connect(r.where()); }) == ECONNREFUSED);
  auto [a, b] = net::socket_pair();
  b.close();
  CHECK(error_of([&a = a] { a.send_all("x"); }) == EPIPE);  // and SIGPIPE is not raised
}

TEST_CASE("a time-out ends a wait") {
  auto [a, b] = net::socket_pair();
  a.timeout(1ms);
  CHECK(error_of([&a = a] { a.recv(1); }) == ETIMEDOUT);
  CHECK(error_of([&a = a] { a.send_all(std::string(4 << 20, 'x')); }) == ETIMEDOUT);
  a.timeout(1ns);  // the system counts microseconds, of which 0 is no limit
  CHECK(error_of([&a = a] { a.recv(1); }) == ETIMEDOUT);
  a.timeout(0s);
  auto waits = spawn([&a = a] { return a.recv(1); });
  sleep(1ms);
  CHECK_FALSE(waits.ready());
  b.send("x");
  CHECK(waits.get() == "x");
}

TEST_CASE("a time-out ends a connect that is not answered") {
  hanging h;
  net::socket s(AF_INET, SOCK_STREAM);
  s.timeout(5ms);
  CHECK(error_of([&] { s.connect(h.where()); }) == ETIMEDOUT);
}

TEST_CASE("a receiver gets all data, however often the connection was empty before") {
  talking t;
  for (int i = 0; i < 100; i++) CHECK(t.asks("question") == "question");
  t.here.send_all(std::string(10'000, 'x'));
  std::size_t got = 0;
  while (got < 10'000) got += t.here.recv(3'000).size();
  CHECK(got == 10'000);
  t.here.shutdown(SHUT_WR);
  CHECK(t.here.recv(1) == "");
  CHECK(t.here.recv(1) == "");
}

TEST_CASE("code that knows the descriptor can make a socket non-blocking by any means") {
  talking t;
  CHECK(t.asks("question") == "question");
  CHECK(t.asks("question") == "question");
  int fd = t.here.descriptor();
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  CHECK(error_of([&] { t.here.recv(1); }) == ETIMEDOUT);
}

TEST_CASE("a time-out counts from when it is set") {
  talking t;
  CHECK(t.asks("question") == "question");
  CHECK(t.asks("question") == "question");
  t.here.timeout(1ms);
  CHECK(error_of([&] { t.here.recv(1); }) == ETIMEDOUT);
}

TEST_CASE(
    "a socket can wait although its number was that of a descriptor closed unseen by the runtime") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  auto reader = spawn([&] {
    char c;
    return posix::read(ends[0], &c, 1);
  });
  yield();
  posix::write(ends[1], "x", 1);
  CHECK(reader.get() == 1);
  ::close(ends[0]);
  ::close(ends[1]);
  talking t;
  CHECK(t.asks("question") == "question");
}

TEST_CASE("closing ends the wait of another fiber with EBADF") {
  auto [a, b] = net::socket_pair();
  auto waits = spawn([&s = a] { return error_of([&] { s.recv(1); }); });
  yield();
  a.close();
  CHECK(waits.get() == EBADF);
}

TEST_CASE("a kill ends a wait for a socket") {
  auto [a, b] = net::socket_pair();
  auto waits = spawn([&s = a] { s.recv(1); });
  yield();
  waits.kill();
  CHECK_THROWS_AS(waits.get(), fiber_exit);
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("net::create_connection");

TEST_CASE("a name is looked up, and connected to") {
  net::socket listener = net::listen_on(address::loopback(0));
  net::socket s = net::create_connection("localhost", listener.local_address().port());
  CHECK(s.remote_address() == listener.local_address());
  CHECK(net::resolve("127.0.0.1", "80").front() == address::loopback(80));
}

TEST_CASE("an unknown name is a resolve_error") {
  CHECK_THROWS_AS(net::create_connection("nowhere.invalid", 80), net::resolve_error);
}

TEST_CASE("an unknown name is a std::system_error whose category is gai_category()") {
  try {
    (void)net::create_connection("nowhere.invalid", 80);
    FAIL("it has an address");
  } catch (const std::system_error& e) {
    CHECK(e.code().category() == net::gai_category());
    // EAI_AGAIN where no name server answers
    CHECK((e.code().value() == EAI_NONAME || e.code().value() == EAI_AGAIN));
    CHECK(std::string(e.what()) ==
          std::string("nowhere.invalid: ") + gai_strerror(e.code().value()));
  }
}

TEST_CASE("a service that does not exist is named by its error") {
  try {
    (void)net::resolve("127.0.0.1", "no such service");
    FAIL("it has a port");
  } catch (const net::resolve_error& e) {
    CHECK(e.code() == std::error_code(EAI_SERVICE, net::gai_category()));
    CHECK(std::string(e.what()).starts_with("127.0.0.1: "));
  }
}

TEST_CASE("the messages of gai_category() are gai_strerror's") {
  CHECK(std::string(net::gai_category().name()) == "getaddrinfo");
  for (int code : {EAI_NONAME, EAI_AGAIN, EAI_FAIL, EAI_FAMILY, EAI_SERVICE, EAI_MEMORY})
    CHECK(net::gai_category().message(code) == gai_strerror(code));
}

TEST_CASE("a code of gai_category() equals the std::errc that says the same") {
  CHECK(std::error_code(EAI_AGAIN, net::gai_category()) ==
        std::errc::resource_unavailable_try_again);
  CHECK(std::error_code(EAI_MEMORY, net::gai_category()) == std::errc::not_enough_memory);
  CHECK(std::error_code(EAI_FAMILY, net::gai_category()) ==
        std::errc::address_family_not_supported);
  CHECK(std::error_code(EAI_BADFLAGS, net::gai_category()) == std::errc::invalid_argument);
  CHECK(std::error_code(EAI_NONAME, net::gai_category()) != std::errc::invalid_argument);
}

TEST_CASE("a look-up that fails for a reason of the system has errno in the generic category") {
  try {
    errno = EMFILE;
    net::throw_resolve_error(EAI_SYSTEM, "somewhere");
  } catch (const std::system_error& e) {
    CHECK(e.code() == std::error_code(EMFILE, std::generic_category()));
  }
}

TEST_CASE("after an address refuses, the next one is tried at once") {
  refusing r;
  net::socket listener = net::listen_on(address::loopback(0));
  net::socket s =
      net::create_connection({r.where(), listener.local_address()}, {.attempt_delay = 1h});
  CHECK(s.remote_address() == listener.local_address());
}

TEST_CASE("an address that does not answer does not delay the others") {
  hanging h;
  net::socket listener = net::listen_on(address::loopback(0));
  net::socket s = net::create_connection({h.where(), h.where(), listener.local_address()},
                                         {.attempt_delay = 1ms});
  CHECK(s.remote_address() == listener.local_address());
}

TEST_CASE("attempts that have not won are given up, and their sockets closed") {
  auto descriptors = [] {
    int n = 0;
    for (int fd = 0; fd < 1000; fd++) n += ::fcntl(fd, F_GETFD) >= 0;
    return n;
  };
  hanging h;
  net::socket listener = net::listen_on(address::loopback(0));
  int before = descriptors();
  for (int i = 0; i < 3; i++) {
    net::socket s = net::create_connection({h.where(), h.where(), listener.local_address()},
                                           {.attempt_delay = 1ms});
    CHECK(error_of([&] {
            (void)net::create_connection({h.where(), h.where()},
                                         {.attempt_delay = 1ms, .timeout = 5ms});
          }) == ETIMEDOUT);
  }
  while (descriptors() > before) sleep(1ms);
}

TEST_CASE("when all addresses refuse, the error lists each attempt") {
  refusing a, b;
  try {
    (void)net::create_connection({a.where(), b.where()});
    FAIL("connected");
  } catch (const net::connect_error& e) {
    CHECK(e.code().value() == ECONNREFUSED);
    REQUIRE(e.attempts().size() == 2);
    CHECK(e.attempts()[0].first == a.where());
    CHECK(std::string(e.what()).starts_with("connect to " + a.where().to_string() + ", " +
                                            b.where().to_string()));
  }
}

TEST_CASE("a time-out ends all attempts") {
  hanging h;
  CHECK(error_of([&] { (void)net::create_connection(h.where(), {.timeout = 5ms}); }) == ETIMEDOUT);
}

TEST_CASE("a kill ends all attempts") {
  hanging h;
  auto t = spawn([&] {
    (void)net::create_connection({h.where(), h.where()}, {.attempt_delay = 1ms});
  });
  ticker other;
  other.await(5);
  t.kill();
  CHECK_THROWS_AS(t.get(), fiber_exit);
}

TEST_CASE("address families alternate, beginning with the first") {
  auto v4 = [](std::uint16_t p) { return address::ip("127.0.0.1", p); };
  auto v6 = [](std::uint16_t p) { return address::ip("::1", p); };
  CHECK(net::happy_eyeballs::interleaved({v6(1), v6(2), v6(3), v4(1)}) ==
        std::vector{v6(1), v4(1), v6(2), v6(3)});
}

TEST_CASE("a connection can be bound to a local address first") {
  net::socket listener = net::listen_on(address::loopback(0));
  net::socket s =
      net::create_connection(listener.local_address(), {.local = address::ip("127.0.0.2", 0)});
  CHECK(s.local_address().host() == "127.0.0.2");
}

TEST_SUITE_END();
