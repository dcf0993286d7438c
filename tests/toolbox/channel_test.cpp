// Channels and select: which peers meet, closing, and that no value is lost.
#include <doctest/doctest.h>
#include <tendril/channel.hpp>
#include <tendril/task.hpp>

#include <memory>
#include <string>
#include <vector>

using namespace tendril;
using namespace std::chrono_literals;

TEST_SUITE_BEGIN("channel");

TEST_CASE("send waits until a receiver takes the value") {
  channel<int> c;
  std::string log;
  auto t = spawn([&] {
    log += "send ";
    c.send(1);
    log += "sent ";
  });
  yield();
  CHECK(log == "send ");
  CHECK(*c.receive() == 1);
  t.join();
  CHECK(log == "send sent ");
}

TEST_CASE("receive waits until a sender comes") {
  channel<std::unique_ptr<int>> c;
  auto t = spawn([&] { return **c.receive(); });
  yield();
  c.send(std::make_unique<int>(5));
  CHECK(t.get() == 5);
}

TEST_CASE("without a partner, try_send and try_receive do nothing, and the others time out") {
  channel<std::string> c;
  std::string value = "value";
  CHECK_FALSE(c.try_send(std::move(value)));
  CHECK(value == "value");
  CHECK_FALSE(c.send(std::move(value), 1ms));
  CHECK(value == "value");
  CHECK_FALSE(c.try_receive());
  CHECK_THROWS_AS(c.receive(1ms), timeout_error);
  auto t = spawn([&] { c.send("x"); });
  yield();
  CHECK(*c.try_receive() == "x");
  t.join();
}

TEST_CASE("senders and receivers are served in the order in which they came") {
  channel<int> c;
  std::vector<task<void>> tasks;
  for (int i = 0; i < 3; i++) tasks.push_back(spawn([&, i] { c.send(i); }));
  yield();
  for (int i = 0; i < 3; i++) CHECK(*c.receive() == i);
  std::vector<int> got(3);
  for (int i = 0; i < 3; i++)
    tasks.push_back(spawn([&, i] { got[std::size_t(i)] = *c.receive(); }));
  yield();
  for (int i = 0; i < 3; i++) c.send(10 + i);
  joinall(tasks);
  CHECK(got == std::vector{10, 11, 12});
}

TEST_CASE("a buffered channel takes as many values as its capacity before send waits") {
  channel<int> c(2);
  CHECK(c.capacity() == 2);
  c.send(1);
  c.send(2);
  CHECK(c.size() == 2);
  CHECK_FALSE(c.try_send(3));
  auto t = spawn([&] { c.send(3); });
  yield();
  for (int i = 1; i <= 3; i++) CHECK(*c.receive() == i);
  t.join();
}

TEST_CASE("a receive from a full channel makes room for the sender that waits longest") {
  channel<int> c(1);
  c.send(1);
  int sent = 0;
  auto second = spawn([&] { c.send(2), sent = 2; });
  auto third = spawn([&] { c.send(3), sent = 3; });
  yield();
  CHECK(*c.receive() == 1);
  yield();
  CHECK(sent == 2);
  CHECK(c.size() == 1);
  CHECK(*c.receive() == 2);
  CHECK(*c.receive() == 3);
  third.join();
}

TEST_CASE(
    "closing wakes all waiters: receivers with an empty optional, senders with channel_closed") {
  channel<int> c;
  auto receiver = spawn([&] { return c.receive().has_value(); });
  yield();
  c.close();
  CHECK_FALSE(receiver.get());
  CHECK_FALSE(c.receive());
  CHECK_THROWS_AS(c.send(1), channel_closed);
  c.close();
  CHECK(c.closed());
  channel<int> d(1);
  d.send(1);
  auto sender = spawn([&] { d.send(2); });
  yield();
  d.close();
  CHECK_THROWS_AS(sender.get(), channel_closed);
  CHECK(*d.receive() == 1);
  CHECK_FALSE(d.receive());
}

TEST_CASE("a loop over a channel ends when it is closed") {
  channel<int> c;
  spawn([&] {
    for (int i = 1; i <= 10; i++) c.send(i);
    c.close();
  });
  int sum = 0;
  for (int i : c) sum += i;
  CHECK(sum == 55);
}

TEST_CASE("a value for a receiver that has been killed goes to the next") {
  channel<int> c;
  auto killed = spawn([&] { c.receive(); });
  yield();
  killed.request_kill();
  c.send(1);
  killed.join();
  CHECK(*c.receive() == 1);
}

TEST_SUITE_END();
TEST_SUITE_BEGIN("select");

TEST_CASE("a value for a receiver that has been killed is the next to be received") {
  channel<int> c(2);
  auto killed = spawn([&] { c.receive(); });
  yield();
  killed.request_kill();
  c.send(1);  // it is handed to the killed receiver
  c.send(2);
  killed.join();
  CHECK(*c.receive() == 1);
  CHECK(*c.receive() == 2);
}

TEST_CASE("select performs the first case that can happen at once, and returns its index") {
  channel<int> a(1), b(1);
  b.send(2);
  int got = 0;
  CHECK(select(on_receive(a, [](auto) { FAIL("a is empty"); }),
               on_receive(b, [&](auto v) { got = *v; })) == 1);
  CHECK(got == 2);
  bool sent = false;
  CHECK(select(on_receive(a, [](auto) {}), on_send(a, 7, [&] { sent = true; })) == 1);
  CHECK(sent);
  CHECK(*a.receive() == 7);
}

TEST_CASE(
    "select waits for the first case that can happen, and leaves no waiter on the other channels") {
  channel<int> a, b, c;
  auto t = spawn([&] {
    int got = 0;
    auto which = select(on_receive(a, [&](auto v) { got = *v; }),
                        on_receive(b, [&](auto v) { got = *v; }), on_send(c, 3, [] {}));
    return std::pair(which, got);
  });
  yield();
  b.send(5);
  CHECK(t.get() == std::pair<std::size_t, int>(1, 5));
  CHECK_FALSE(a.try_send(1));
  CHECK_FALSE(b.try_send(1));
  CHECK_FALSE(c.try_receive());
}

TEST_CASE("select with otherwise does not wait; with after, not for ever") {
  channel<int> a;
  bool none = false, late = false;
  CHECK(select(on_receive(a, [](auto) {}), otherwise([&] { none = true; })) == 1);
  CHECK(none);
  CHECK(select(on_receive(a, [](auto) {}), after(1h, [] {}), after(1ms, [&] { late = true; })) ==
        2);
  CHECK(late);
}

TEST_CASE("two selects meet each other") {
  channel<int> a, b;
  auto t = spawn([&] {
    int got = 0;
    select(on_receive(a, [&](auto v) { got = *v; }), on_receive(b, [&](auto v) { got = *v; }));
    return got;
  });
  yield();
  select(on_send(b, 9, [] {}), on_send(a, 8, [] {}));
  CHECK(t.get() == 9);
}

TEST_CASE("a select may name a channel twice, and does not meet itself") {
  channel<int> a;
  CHECK(select(on_send(a, 1, [] {}), on_receive(a, [](auto) {}), after(1ms, [] {})) == 2);
  auto t = spawn([&] { a.send(4); });
  CHECK(select(on_send(a, 1, [] {}), on_receive(a, [](auto v) { CHECK(*v == 4); })) == 1);
  t.join();
}

TEST_CASE(
    "a closed channel ends a select: a receive gets an empty optional, a send channel_closed") {
  channel<int> a;
  auto receives = spawn([&] {
    bool closed = false;
    select(on_receive(a, [&](auto v) { closed = !v; }));
    return closed;
  });
  auto sends = spawn([&] {
    channel<int> other;
    select(on_receive(other, [](auto) {}), on_receive(a, [](auto) {}));
  });
  yield();
  a.close();
  CHECK(receives.get());
  sends.get();
  CHECK_THROWS_AS(select(on_send(a, 1, [] {})), channel_closed);
}

TEST_CASE("a select that waits to send throws channel_closed when the channel is closed") {
  channel<int> a;
  bool sent = false;
  auto sends = spawn([&] { select(on_send(a, 1, [&] { sent = true; })); });
  yield();
  a.close();
  CHECK_THROWS_AS(sends.get(), channel_closed);
  CHECK_FALSE(sent);
}

TEST_CASE("a killed select leaves no waiter behind, and passes on a value that it was given") {
  channel<int> a, b;
  auto killed = spawn([&] { select(on_receive(a, [](auto) {}), on_receive(b, [](auto) {})); });
  yield();
  killed.kill();
  CHECK_FALSE(a.try_send(1));
  auto late = spawn([&] { select(on_receive(a, [](auto) {}), on_receive(b, [](auto) {})); });
  yield();
  late.request_kill();
  a.send(3);
  late.join();
  CHECK(*a.receive() == 3);
}

TEST_CASE("a select that nothing can end throws loop_exit") {
  channel<int> a, b;
  CHECK_THROWS_AS(select(on_receive(a, [](auto) {}), on_send(b, 1, [] {})), loop_exit);
}

TEST_SUITE_END();
