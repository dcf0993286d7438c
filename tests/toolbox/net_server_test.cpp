// Servers, with the semantics of gevent's (test__server, test__socket's servers).
#include <doctest/doctest.h>
#include <tendril/event.hpp>
#include <tendril/net/create_connection.hpp>
#include <tendril/net/datagram_server.hpp>
#include <tendril/net/stream_server.hpp>
#include <tendril/task.hpp>

#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "ticker.hpp"

using namespace tendril;
using namespace std::chrono_literals;
using net::address;

namespace {

void echo(stream& s) {
  for (auto& line : s.lines()) {
    s.write(line + "\n");
    s.flush();
  }
}
stream client(const net::base_server& s) {
  return net::open_stream(net::create_connection(s.where()));
}
std::string ask(stream& s, const std::string& line) {
  s.write(line + "\n");
  s.flush();
  return s.read_line().value_or("the end");
}
const address anywhere = address::loopback(0);

}  // namespace

TEST_SUITE_BEGIN("net::stream_server");

TEST_CASE("each connection is handled in a task of its own") {
  net::stream_server server(anywhere, echo);
  server.start();
  std::vector<stream> clients;
  for (int i = 0; i < 20; i++) clients.push_back(client(server));
  for (int i = 19; i >= 0; i--)
    CHECK(ask(clients[std::size_t(i)], std::to_string(i)) == std::to_string(i));
  CHECK(server.connections() == 20);
  server.stop(0s);
  CHECK(server.connections() == 0);
}

TEST_CASE(
    "after each accepted connection, a shortage of descriptors begins with the shortest delay") {
  // Runs out of descriptors five times before each accepted connection. If the delay were never
  // reset, this would take hours.
  struct server : net::base_server {
    server() : base_server(net::listen_on(anywhere), {.min_delay = 1ms, .max_delay = 24h}) {}
    ~server() { abandon(); }
    void take_one() override {
      if (calls++ % 6 < 5) throw std::system_error(EMFILE, std::generic_category());
      taken++;
      if (taken == 6) done.set();
      if (taken == 6) sleep(1h);
    }
    int calls = 0, taken = 0;
    event done;
  } s;
  s.start();
  CHECK(s.done.wait(60s));
}

TEST_CASE("a handler may take the socket, and the peer's address") {
  address peer;
  net::stream_server server(anywhere, [&](net::socket s, const address& from) {
    peer = from;
    s.send_all("x");
  });
  server.start();
  net::socket c = net::create_connection(server.where());
  CHECK(c.recv(1) == "x");
  CHECK(peer == c.local_address());
}

TEST_CASE("a handler's output is sent when it returns, and the connection closes") {
  net::stream_server server(anywhere, [](stream& s, const address&) { s.write("bye"); });
  server.start();
  CHECK(client(server).read_all() == "bye");
}

TEST_CASE("connections that come before the start wait for it") {
  net::stream_server server(anywhere, echo);
  CHECK_FALSE(server.started());
  stream c = client(server);
  server.start();
  CHECK(server.started());
  CHECK(ask(c, "late") == "late");
}

TEST_CASE("a paused server accepts nothing, its handlers go on, and it can start again") {
  net::stream_server server(anywhere, echo);
  server.start();
  stream a = client(server);
  CHECK(ask(a, "1") == "1");
  server.pause();
  CHECK_FALSE(server.started());
  stream b = client(server);
  CHECK(ask(a, "2") == "2");
  CHECK(server.connections() == 1);
  server.start();
  CHECK(ask(b, "3") == "3");
}

TEST_CASE("a stopped server refuses, and cannot be started") {
  net::stream_server server(anywhere, echo);
  server.start();
  server.stop();
  CHECK(server.closed());
  CHECK_THROWS_AS(client(server), net::connect_error);
  CHECK_THROWS_WITH_AS(server.start(), "the server was stopped", error);
  server.stop();
}

TEST_CASE("stop waits for handlers that end in time") {
  bool ended = false;
  net::stream_server server(anywhere, [&](stream& s) {
    s.read_line();
    ended = true;
  });
  server.start();
  stream c = client(server);
  while (server.connections() == 0) sleep(1ms);
  auto stops = spawn([&] { server.stop(1h); });
  yield();
  CHECK_FALSE(stops.ready());
  c.write("\n");
  c.flush();
  stops.join();
  CHECK(ended);
}

TEST_CASE("stop kills the handlers that are left after its time-out") {
  bool unwound = false;
  net::stream_server server(anywhere, [&](stream& s) {
    struct says {
      bool& b;
      ~says() { b = true; }
    } guard{unwound};
    s.read_line();
  });
  server.start();
  stream c = client(server);
  while (server.connections() == 0) sleep(1ms);
  server.stop(1ms);
  CHECK(unwound);
  CHECK(c.read_line() == std::nullopt);
}

TEST_CASE("a handler that is stopped before it began never does, and its connection closes") {
  net::stream_server server(anywhere, [](stream& s) { s.read_line(); });
  stream c = client(server);
  server.start();
  while (server.connections() == 0) yield();
  server.stop(0s);
  CHECK(server.connections() == 0);
  CHECK(c.read_line() == std::nullopt);
}

TEST_CASE("a non-blocking listener is made blocking") {
  net::socket listener = net::listen_on(anywhere);
  posix::fcntl(listener.descriptor(), F_SETFL, reinterpret_cast<void*>(long(O_NONBLOCK)));
  net::stream_server server(std::move(listener), echo);
  server.start();
  yield();
  stream c = client(server);
  CHECK(ask(c, "x") == "x");
}

TEST_CASE("a server that goes out of scope kills its handlers") {
  stream c;
  {
    net::stream_server server(anywhere, echo);
    server.start();
    c = client(server);
    CHECK(ask(c, "x") == "x");
  }
  CHECK(c.read_line() == std::nullopt);
}

TEST_CASE("serve_forever returns when the server is stopped, by a handler too") {
  net::stream_server server(anywhere, [&](stream&) { server.stop(); });
  auto serves = spawn([&] { server.serve_forever(); });
  yield();
  stream c = client(server);
  serves.get();
  CHECK(server.closed());
}

TEST_CASE("a kill of serve_forever stops the server") {
  net::stream_server server(anywhere, echo);
  auto serves = spawn([&] { server.serve_forever(); });
  yield();
  stream c = client(server);
  CHECK(ask(c, "x") == "x");
  serves.kill();
  CHECK(server.closed());
  CHECK(c.read_line() == std::nullopt);
}

TEST_CASE("an exception of a handler is reported, and the server goes on") {
  std::vector<std::string> errors;
  net::stream_server server(anywhere,
                            [](stream& s) {
                              if (s.read_line() == "bad") throw std::runtime_error("a bad line");
                              s.write("good\n");
                            },
                            {.on_error = [&](std::exception_ptr e) {
                              try {
                                std::rethrow_exception(e);
                              } catch (const std::exception& x) {
                                errors.push_back(x.what());
                              }
                            }});
  server.start();
  stream bad = client(server), good = client(server);
  CHECK(ask(bad, "bad") == "the end");
  CHECK(ask(good, "x") == "good");
  CHECK(errors == std::vector<std::string>{"a bad line"});
}

TEST_CASE("while the maximum number of handlers runs, the next connection waits until one ends") {
  net::stream_server server(anywhere, echo, {.max_connections = 2});
  server.start();
  stream a = client(server), b = client(server);
  CHECK(ask(a, "a") == "a");
  CHECK(ask(b, "b") == "b");
  stream c = client(server);
  auto waits = spawn([&] { return ask(c, "c"); });
  CHECK(ask(a, "again") == "again");
  CHECK(server.connections() == 2);
  CHECK_FALSE(waits.ready());
  b.close();
  CHECK(waits.get() == "c");
}

TEST_CASE("a server without free descriptors pauses, and accepts the connection when one is free") {
  net::stream_server server(anywhere, echo, {.min_delay = 1ms, .max_delay = 4ms});
  server.start();
  yield();
  std::vector<net::socket> mine;
  mine.emplace_back(AF_INET, SOCK_STREAM);
  rlimit before;
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit few{rlim_t(mine.back().descriptor()) + 3, before.rlim_max};
  setrlimit(RLIMIT_NOFILE, &few);
  try {
    for (;;) mine.emplace_back(AF_INET, SOCK_STREAM);
  } catch (const std::system_error& e) {
    CHECK(e.code().value() == EMFILE);
  }
  mine.front().connect(server.where());
  ticker other;
  other.await(10);
  CHECK(server.started());
  CHECK(server.connections() == 0);
  mine.pop_back();
  mine.front().send_all("at last\n");
  CHECK(mine.front().recv(100) == "at last\n");
  setrlimit(RLIMIT_NOFILE, &before);
}

TEST_CASE("many connections are accepted in batches, so that others run") {
  net::stream_server server(anywhere, [](stream&) {}, {.backlog = 64, .max_accept = 5});
  std::vector<net::socket> crowd;
  for (int i = 0; i < 50; i++) crowd.push_back(net::create_connection(server.where()));
  server.start();
  std::size_t most = 0;
  for (int i = 0; i < 30; i++) {
    yield();
    most = std::max(most, server.connections());
  }
  CHECK(most <= 6);
}

TEST_CASE("a server may listen on a local socket") {
  net::stream_server server(
      address::local(std::string("\0tendril-server-", 16) + std::to_string(::getpid())), echo);
  server.start();
  stream c = client(server);
  CHECK(ask(c, "local") == "local");
}

TEST_CASE("an address that is in use is an error") {
  net::stream_server server(anywhere, echo);
  CHECK_THROWS_AS(net::stream_server(server.where(), echo), std::system_error);
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("net::datagram_server");

TEST_CASE("each datagram is handled in a task of its own, and may be answered") {
  net::datagram_server server(anywhere, [&](std::string data, const address& from) {
    if (data == "slow") sleep(1h);
    server.send_to("got " + data, from);
  });
  server.start();
  net::socket c(AF_INET, SOCK_DGRAM);
  c.connect(server.where());
  c.send("slow");
  c.send("a");
  CHECK(c.recv(100) == "got a");
  c.send("b");
  CHECK(c.recv(100) == "got b");
  CHECK(server.connections() == 1);
  server.stop(0s);
  CHECK(server.connections() == 0);
}

TEST_CASE("an empty datagram is handled too") {
  net::datagram_server server(anywhere, [&](std::string data, const address& from) {
    server.send_to(std::to_string(data.size()), from);
  });
  server.start();
  net::socket c(AF_INET, SOCK_DGRAM);
  c.connect(server.where());
  c.send("");
  CHECK(c.recv(100) == "0");
}

TEST_CASE("a datagram comes whole, up to the longest that there is") {
  net::datagram_server server(anywhere, [&](std::string data, const address& from) {
    server.send_to(std::to_string(data.size()) + data.back(), from);
  });
  server.start();
  net::socket c(AF_INET, SOCK_DGRAM);
  c.connect(server.where());
  std::string longest(65535 - 20 - 8, 'x');  // without the headers of IP and UDP
  longest.back() = 'y';
  c.send(longest);
  CHECK(c.recv(100) == "65507y");
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("servers with several kernel threads");

TEST_CASE("with workers, connections are handled on several kernel threads at once") {
  std::atomic<std::uint32_t> left{2};
  net::stream_server server(anywhere,
                            [&](stream& s) {
                              // Each blocks its kernel thread until the other one has come.
                              if (--left == 0)
                                core::futex_wake_one(&left), core::futex_wake_one(&left);
                              while (std::uint32_t n = left) core::futex_sleep(&left, n);
                              s.write(std::to_string(gettid()));
                            },
                            {.workers = 2});
  server.start();
  stream a = client(server), b = client(server);
  std::string on_a = a.read_all(), on_b = b.read_all();
  CHECK(on_a != on_b);
  CHECK(on_a != std::to_string(gettid()));
  CHECK(on_b != std::to_string(gettid()));
}

TEST_CASE("connections of workers wait for each other, and keep to their kernel thread") {
  std::atomic<int> moved{0};
  net::stream_server server(anywhere,
                            [&](stream& s) {
                              auto here = gettid();
                              for (auto& line : s.lines()) {
                                moved += gettid() != here;
                                s.write(line + "\n");
                                s.flush();
                              }
                            },
                            {.workers = 3});
  server.start();
  std::vector<stream> clients;
  for (int i = 0; i < 20; i++) clients.push_back(client(server));
  for (int round = 0; round < 5; round++) {
    for (auto& c : clients) CHECK(ask(c, "x") == "x");
  }
  CHECK(server.connections() == 20);
  server.stop(0s);
  CHECK(server.connections() == 0);
  CHECK(moved == 0);
}

TEST_CASE("the maximum number of handlers holds for all workers together") {
  std::atomic<int> now{0}, most{0}, made{0};
  net::stream_server server(anywhere,
                            [&](stream& s) {
                              int n = ++now;
                              for (int m = most; n > m && !most.compare_exchange_weak(m, n);) {}
                              s.read_line();
                              now--, made++;
                            },
                            {.max_connections = 2, .workers = 2});
  server.start();
  std::vector<task<void>> clients;
  for (int i = 0; i < 20; i++) {
    clients.push_back(spawn([&] {
      stream c = client(server);
      c.write("\n");
      c.flush();
      c.read_all();
    }));
  }
  for (auto& c : clients) c.get();
  CHECK(most <= 2);
  CHECK(made == 20);
}

TEST_CASE("any kernel thread may stop a server, with workers and without") {
  for (unsigned workers : {1u, 2u}) {
    for (int round = 0; round < 20; round++) {
      event handled;
      std::atomic<bool> killed{false};
      net::stream_server server(anywhere,
                                [&](stream& s) {
                                  handled.set();
                                  try {
                                    s.read_line();
                                  } catch (const fiber_exit&) {
                                    killed = true;
                                    throw;
                                  }
                                },
                                {.workers = workers});
      std::thread stops([&] {
        stream c = client(server);
        handled.wait();
        CHECK(server.started());
        CHECK(server.connections() == 1);
        server.stop(round % 2 ? 1ms : 0ms);
        CHECK(server.closed());
        CHECK(server.connections() == 0);
      });
      server.serve_forever();
      stops.join();
      CHECK(killed);
      CHECK_THROWS_WITH_AS(server.start(), "the server was stopped", error);
    }
  }
}

TEST_CASE("any kernel thread may pause a server and start it again, on its own hub") {
  net::stream_server server(anywhere, echo, {.workers = 2});
  server.start();
  stream a = client(server);
  CHECK(ask(a, "1") == "1");
  event over, go_on;
  std::thread other([&] {
    server.pause();
    CHECK_FALSE(server.started());
    server.start();
    CHECK(server.started());
    over.set();
    go_on.wait();
  });
  over.wait();
  CHECK(ask(a, "2") == "2");
  stream b = client(server);
  CHECK(ask(b, "3") == "3");
  go_on.set();
  other.join();
}

TEST_CASE("stop waits for handlers of workers that end in time") {
  std::atomic<bool> ended{false};
  event reading;
  net::stream_server server(anywhere,
                            [&](stream& s) {
                              reading.set();
                              s.read_line();
                              ended = true;
                            },
                            {.workers = 2});
  server.start();
  stream c = client(server);
  reading.wait();
  auto stops = spawn([&] { server.stop(1h); });
  yield();
  CHECK_FALSE(stops.ready());
  c.write("\n");
  c.flush();
  stops.join();
  CHECK(ended);
}

TEST_CASE("a handler of a worker may stop its own server, and is not waited for") {
  event stopped;
  net::stream_server server(anywhere,
                            [&](stream& s) {
                              s.read_line();
                              server.stop();
                              s.write("stopped\n");
                              stopped.set();
                            },
                            {.workers = 2});
  server.start();
  stream c = client(server), idle = client(server);
  CHECK(ask(c, "stop") == "stopped");
  stopped.wait();
  CHECK(idle.read_all().empty());
}

TEST_CASE("the destructor kills the handlers of workers, also those that have just been accepted") {
  for (int round = 0; round < 20; round++) {
    std::atomic<int> begun{0}, ended{0};
    {
      net::stream_server server(anywhere,
                                [&](stream& s) {
                                  struct counts {
                                    std::atomic<int>& n;
                                    ~counts() { n++; }
                                  } c{ended};
                                  begun++;
                                  s.read_line();
                                },
                                {.workers = 2});
      server.start();
      std::vector<stream> clients;
      for (int i = 0; i < 10; i++) clients.push_back(client(server));
      for (int i = 0; i < round; i++) yield();
    }
    CHECK(begun == ended);
  }
}

TEST_CASE("an exception of a worker's handler is reported, and the server goes on") {
  std::atomic<int> errors{0};
  net::stream_server server(anywhere,
                            [](stream& s) {
                              if (s.read_line() == "bad") throw std::runtime_error("a bad line");
                              s.write("good\n");
                            },
                            {.workers = 2, .on_error = [&](std::exception_ptr) { errors++; }});
  server.start();
  stream bad = client(server);
  CHECK(ask(bad, "bad") == "the end");
  stream good = client(server);
  CHECK(ask(good, "x") == "good");
  CHECK(errors == 1);
}

TEST_CASE("datagrams can be handled by workers, too") {
  net::datagram_server server(anywhere,
                              [&](std::string data, const address& from) {
                                server.send_to(data + (gettid() == getpid() ? " main" : " worker"),
                                               from);
                              },
                              {.workers = 2});
  server.start();
  net::socket c(AF_INET, SOCK_DGRAM);
  c.connect(server.where());
  c.send("a");
  CHECK(c.recv(100) == "a worker");
}

TEST_SUITE_END();
