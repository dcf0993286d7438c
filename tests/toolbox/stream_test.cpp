// Buffered streams, with the semantics of asyncio's StreamReader (test_streams) and StreamWriter.
#include <doctest/doctest.h>
#include <tendril/net/socket.hpp>
#include <tendril/stream.hpp>
#include <tendril/task.hpp>

#include <fcntl.h>

using namespace tendril;
using namespace std::chrono_literals;

namespace {

struct ends {
  net::socket other;
  stream s;
  ends() {
    auto [a, b] = net::socket_pair();
    other = std::move(a);
    s = net::open_stream(std::move(b));
  }
  // Sends `all`, and then the end.
  explicit ends(std::string_view all) : ends() {
    other.send_all(all);
    other.close();
  }
};

}  // namespace

TEST_SUITE_BEGIN("stream");

TEST_CASE("lines are returned without their ends, the last one possibly without having one") {
  ends e("one\r\ntwo\n\nlast");
  std::vector<std::string> lines;
  for (auto& line : e.s.lines()) lines.push_back(line);
  CHECK(lines == std::vector<std::string>{"one", "two", "", "last"});
  CHECK(e.s.read_line() == std::nullopt);
}

TEST_CASE("a line that comes in pieces is waited for") {
  ends e;
  auto reads = spawn([&] { return e.s.read_line(); });
  for (auto piece : {"a", "b", "c\nd"}) {
    e.other.send_all(piece);
    yield();
  }
  CHECK(reads.get() == "abc");
  CHECK(e.s.buffered() == "d");
}

TEST_CASE("a line beyond the limit is an error, and remains readable") {
  ends e("0123456789\nx");
  CHECK_THROWS_AS(e.s.read_line(5), limit_overrun);
  CHECK(e.s.read_exactly(4) == "0123");
  CHECK(e.s.read_line(7) == "456789");
}

TEST_CASE("read_until returns everything up to and including its delimiter, also across reads") {
  ends e;
  auto reads = spawn([&] { return e.s.read_until("--end--"); });
  for (auto piece : {"data--en", "d-", "-more"}) {
    e.other.send_all(piece);
    yield();
  }
  CHECK(reads.get() == "data--end--");
  CHECK(e.s.read_some() == "more");
}

TEST_CASE("an end before the delimiter reports what was read") {
  ends e("no delimiter");
  try {
    e.s.read_until(";");
    FAIL("found");
  } catch (const incomplete_read& i) {
    CHECK(i.partial() == "no delimiter");
  }
  CHECK(e.s.read_all() == "");
  CHECK_THROWS_AS(e.s.read_until(""), error);
}

TEST_CASE("read_exactly waits for all, and at an early end reports what it has read") {
  ends e("12345");
  CHECK(e.s.read_exactly(0) == "");
  CHECK(e.s.read_exactly(3) == "123");
  try {
    e.s.read_exactly(3);
    FAIL("read");
  } catch (const incomplete_read& i) {
    CHECK(i.partial() == "45");
  }
}

TEST_CASE("read_some returns the available bytes, read_all everything") {
  ends e(std::string(50'000, 'x'));
  CHECK(e.s.read_some(10) == "xxxxxxxxxx");
  CHECK(e.s.read_all().size() == 49'990);
  CHECK(e.s.read_some() == "");
}

TEST_CASE("written data is sent by flush, end_writing and close") {
  ends e;
  e.s.write("a");
  e.s.write("b");
  char c;
  CHECK(::recv(e.other.descriptor(), &c, 1, MSG_DONTWAIT) < 0);
  e.s.flush();
  CHECK(e.other.recv(10) == "ab");
  e.s.write("c");
  e.s.end_writing();
  CHECK(e.other.recv(10) == "c");
  CHECK(e.other.recv(10) == "");
  e.other.send_all("reply");
  CHECK(e.s.read_exactly(5) == "reply");
  ends f;
  f.s.write("d");
  f.s.close();
  CHECK(f.other.recv(10) == "d");
  f.s.close();
}

TEST_CASE("a stream is closed also if flushing it throws") {
  struct refuses : transport {
    bool& closed;
    explicit refuses(bool& c) : closed(c) {}
    std::size_t read_some(void*, std::size_t) override { return 0; }
    void write_all(std::string_view) override { throw std::runtime_error("full"); }
    void end_writing() override {}
    void close() noexcept override { closed = true; }
  };
  bool closed = false;
  stream s(std::make_unique<refuses>(closed));
  s.write("x");
  CHECK_THROWS_WITH(s.close(), "full");
  CHECK(closed);
}

TEST_CASE("much data is written while another fiber reads the same stream") {
  ends e;
  auto echo = spawn([&] {
    for (std::string s; !(s = e.other.recv(65536)).empty();) e.other.send_all(s);
    e.other.close();
  });
  auto reads = spawn([&] { return e.s.read_all().size(); });
  for (int i = 0; i < 1000; i++) e.s.write(std::string(1000, 'x'));
  e.s.end_writing();
  CHECK(reads.get() == 1'000'000);
}

TEST_CASE("two fibers that read the same stream at once are an error") {
  ends e;
  auto a = spawn([&] { return e.s.read_line(); });
  auto b = spawn([&] { return e.s.read_line(); });
  CHECK_THROWS_AS(b.get(), error);
  e.other.send_all("x\n");
  CHECK(a.get() == "x");
}

TEST_CASE("a killed reader leaves the received data") {
  ends e;
  e.other.send_all("abc");
  auto reads = spawn([&] { return e.s.read_line(); });
  yield();
  reads.kill();
  e.other.send_all("def\n");
  CHECK(e.s.read_line() == "abcdef");
}

TEST_CASE("closing ends the wait of a reader") {
  ends e;
  auto reads = spawn([&] { return e.s.read_line(); });
  yield();
  e.s.close();
  CHECK_THROWS_AS(reads.get(), std::system_error);
}

TEST_CASE("a stream over a pipe reads and writes") {
  int p[2];
  REQUIRE(::pipe2(p, O_CLOEXEC) == 0);
  stream in = stream::adopt(p[0]), out = stream::adopt(p[1]);
  auto reads = spawn([&] { return in.read_line(); });
  out.write("through\n");
  out.flush();
  CHECK(reads.get() == "through");
  out.end_writing();
  CHECK(in.read_line() == std::nullopt);
}

TEST_CASE("using an empty stream handle is an error") {
  CHECK_THROWS_AS(stream().read_line(), error);
}

TEST_SUITE_END();
