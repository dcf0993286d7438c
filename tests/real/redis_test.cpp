// hiredis, an unmodified blocking C library, in a hundred fibers of one kernel thread, with a real
// server.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <tendril/task.hpp>
#include <vector>

using namespace std::chrono_literals;

namespace {

constexpr int clients = 100;

struct free_reply {
  void operator()(redisReply* r) const { freeReplyObject(r); }
};
struct end_connection {
  void operator()(redisContext* c) const { redisFree(c); }
};
using reply = std::unique_ptr<redisReply, free_reply>;
using connection = std::unique_ptr<redisContext, end_connection>;

template <class... A>
reply command(const connection& c, const char* format, A... arguments) {
  return reply(static_cast<redisReply*>(redisCommand(c.get(), format, arguments...)));
}

std::string text(const reply& r) { return r && r->str ? std::string(r->str, r->len) : "(none)"; }

// A server for the test, on a socket in its own directory, without persistence.
class server {
 public:
  server() {
    char name[] = "/tmp/redis_test.XXXXXX";
    if (!mkdtemp(name)) std::perror("redis_test: mkdtemp"), std::exit(1);
    directory_ = name;
    socket_ = directory_ + "/socket";
    const char* argv[] = {"redis-server", "--port",    "0",         "--unixsocket", socket_.c_str(),
                          "--save",       "",          "--dir",     name,           "--appendonly",
                          "no",           "--logfile", "/dev/null", nullptr};
    found_ = posix_spawnp(&pid_, argv[0], nullptr, nullptr, const_cast<char**>(argv), environ) == 0;
  }
  ~server() {
    if (found_) {
      kill(pid_, SIGTERM);
      waitpid(pid_, nullptr, 0);
    }
    unlink(socket_.c_str());
    rmdir(directory_.c_str());
  }
  bool found() const { return found_; }

  // Waits for the server to answer; it does not report when it is ready.
  connection connect() const {
    for (;;) {
      connection c(redisConnectUnix(socket_.c_str()));
      if (c && !c->err && text(command(c, "PING")) == "PONG") return c;
      REQUIRE(waitpid(pid_, nullptr, WNOHANG) == 0);
      tendril::sleep(10ms);
    }
  }

 private:
  std::string directory_, socket_;
  pid_t pid_ = 0;
  bool found_ = false;
};

server* redis;

long info(const connection& c, const char* section, const char* field) {
  std::string all = text(command(c, "INFO %s", section));
  auto at = all.find(std::string(field) + ":");
  return at == all.npos ? -1 : std::atol(all.c_str() + at + std::strlen(field) + 1);
}

void until_blocked(const connection& c, long n) {
  while (info(c, "clients", "blocked_clients") != n) tendril::yield();
}

}  // namespace

TEST_CASE("a hundred fibers are blocked in BLPOP at once, and each gets what another pushes") {
  auto pop = [](int i) {
    connection c = redis->connect();
    reply r = command(c, "BLPOP queue:%d 0", i);
    REQUIRE(r);
    REQUIRE(r->type == REDIS_REPLY_ARRAY);
    REQUIRE(r->elements == 2);
    return std::string(r->element[1]->str);
  };
  auto push = [](int i) {
    connection c = redis->connect();
    CHECK(command(c, "LPUSH queue:%d %s", i, ("value " + std::to_string(i)).c_str())->integer == 1);
  };
  connection watch = redis->connect();
  std::vector<tendril::task<std::string>> pops;
  for (int i = 0; i < clients; i++) pops.push_back(tendril::spawn(pop, i));
  until_blocked(watch, clients);  // the server reports that all of them wait
  for (auto& t : pops) CHECK_FALSE(t.ready());
  std::vector<tendril::task<void>> pushes;
  for (int i = 0; i < clients; i++) pushes.push_back(tendril::spawn(push, i));
  for (int i = 0; i < clients; i++) CHECK(pops[i].get() == "value " + std::to_string(i));
  for (auto& t : pushes) t.get();
  CHECK(info(watch, "clients", "blocked_clients") == 0);
}

TEST_CASE("pipelines of a hundred fibers do not get mixed up") {
  constexpr int commands = 100;
  auto client = [](int i) {
    connection c = redis->connect();
    for (int k = 0; k < commands; k++) {
      REQUIRE(redisAppendCommand(c.get(), "ECHO %d:%d", i, k) == REDIS_OK);
      REQUIRE(redisAppendCommand(c.get(), "INCR pipeline") == REDIS_OK);
    }
    int right = 0;
    long last = 0;
    for (int k = 0; k < commands; k++) {
      void* answer = nullptr;
      REQUIRE(redisGetReply(c.get(), &answer) == REDIS_OK);
      right += text(reply(static_cast<redisReply*>(answer))) ==
               std::to_string(i) + ":" + std::to_string(k);
      REQUIRE(redisGetReply(c.get(), &answer) == REDIS_OK);
      reply count(static_cast<redisReply*>(answer));
      right += count->integer > last;
      last = count->integer;
    }
    return right;
  };
  std::vector<tendril::task<int>> all;
  for (int i = 0; i < clients; i++) all.push_back(tendril::spawn(client, i));
  for (auto& t : all) CHECK(t.get() == 2 * commands);
  CHECK(text(command(redis->connect(), "GET pipeline")) == std::to_string(clients * commands));
}

TEST_CASE("a time-out of hiredis ends the call of its fiber while others go on waiting") {
  connection watch = redis->connect();
  auto waits = tendril::spawn([] {
    connection c = redis->connect();
    reply r = command(c, "BLPOP late 0");
    return r && r->elements == 2 ? std::string(r->element[1]->str) : "nothing";
  });
  auto gives_up = [] {
    connection c = redis->connect();
    REQUIRE(redisSetTimeout(c.get(), timeval{0, 30'000}) == REDIS_OK);
    reply r = command(c, "BLPOP never 0");
    CHECK_FALSE(r);
    return c->err == REDIS_ERR_IO && errno == EAGAIN;
  };
  std::vector<tendril::task<bool>> all;
  for (int i = 0; i < clients; i++) all.push_back(tendril::spawn(gives_up));
  for (auto& t : all) CHECK(t.get());
  CHECK_FALSE(waits.ready());
  until_blocked(watch, 1);
  CHECK(command(watch, "LPUSH late now")->integer == 1);
  CHECK(waits.get() == "now");
}

TEST_CASE("a killed fiber leaves BLPOP, and hiredis reports an error") {
  connection watch = redis->connect();
  bool failed = false;
  auto t = tendril::spawn([&] {
    connection c = redis->connect();
    failed = !command(c, "BLPOP never 0");
    tendril::yield();
    FAIL("a killed task goes on");
  });
  until_blocked(watch, 1);
  t.kill();
  CHECK(failed);
  CHECK(t.ready());
  until_blocked(watch, 0);
}

TEST_CASE("values of eight megabytes pass whole, while others run") {
  std::string big(8 << 20, 'x');
  for (std::size_t i = 0; i < big.size(); i += 4097) big[i] = char('a' + i % 26);
  bool done = false;
  long turns = 0;
  auto runs = tendril::spawn([&] {
    while (!done) tendril::yield(), turns++;
  });
  std::vector<tendril::task<bool>> all;
  for (int i = 0; i < 4; i++) {
    all.push_back(tendril::spawn([&big, i] {
      connection c = redis->connect();
      reply set = command(c, "SET big:%d %b", i, big.data(), big.size());
      return text(set) == "OK" && text(command(c, "GET big:%d", i)) == big;
    }));
  }
  for (auto& t : all) CHECK(t.get());
  done = true;
  runs.join();
  CHECK(turns > 10);
}

TEST_CASE("publications reach every subscriber") {
  connection watch = redis->connect();
  std::vector<tendril::task<std::string>> all;
  for (int i = 0; i < clients; i++) {
    all.push_back(tendril::spawn([] {
      connection c = redis->connect();
      command(c, "SUBSCRIBE news");
      void* message = nullptr;
      if (redisGetReply(c.get(), &message) != REDIS_OK) return std::string("nothing");
      reply r(static_cast<redisReply*>(message));
      return std::string(r->element[2]->str);
    }));
  }
  while (command(watch, "PUBSUB NUMSUB news")->element[1]->integer != clients) tendril::yield();
  CHECK(command(watch, "PUBLISH news flash")->integer == clients);
  for (auto& t : all) CHECK(t.get() == "flash");
}

int main(int argc, char** argv) {
  server own;
  if (!own.found()) {
    std::puts("skipped: all cases: not installed: redis-server");
    return 77;
  }
  redis = &own;
  return doctest::Context(argc, argv).run();
}
