// Boost.Asio: callbacks, and stackful coroutines by spawn().
#include <memory>
#include <random>
#include <utility>  // boost/asio.hpp does not include it

#include <boost/asio.hpp>
#include <boost/asio/spawn.hpp>

#include "bench.hpp"

using namespace bench;
namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

struct session : std::enable_shared_from_this<session> {
  explicit session(tcp::socket s) : socket(std::move(s)) {}
  void read() {
    socket.async_read_some(asio::buffer(data),
                           [self = shared_from_this()](auto error, std::size_t n) {
                             if (!error) self->write(n);
                           });
  }
  void write(std::size_t n) {
    asio::async_write(socket, asio::buffer(data, n),
                      [self = shared_from_this()](auto error, std::size_t) {
                        if (!error) self->read();
                      });
  }
  tcp::socket socket;
  char data[4096];
};

struct server {
  server() : acceptor(io, tcp::v4(), listen_on_loopback()) {}
  asio::io_context io{1};
  tcp::acceptor acceptor;
};

void echo(work&) {
  server s;
  auto accept = [&](auto& again) -> void {
    s.acceptor.async_accept([&](auto error, tcp::socket c) {
      if (error) std::exit(1);
      c.set_option(tcp::no_delay(true));
      std::make_shared<session>(std::move(c))->read();
      again(again);
    });
  };
  accept(accept);
  s.io.run();
}

void echo_spawn(work&) {
  server s;
  boost::coroutines::attributes stack(64 * 1024);
  asio::spawn(
      s.io,
      [&](asio::yield_context yield) {
        for (;;) {
          auto c = std::make_shared<tcp::socket>(s.io);
          s.acceptor.async_accept(*c, yield);
          c->set_option(tcp::no_delay(true));
          asio::spawn(
              s.io,
              [c](asio::yield_context yield) {
                boost::system::error_code error;
                for (char data[4096]; !error;) {
                  std::size_t n = c->async_read_some(asio::buffer(data), yield[error]);
                  if (!error) asio::async_write(*c, asio::buffer(data, n), yield[error]);
                }
              },
              stack);
        }
      },
      stack);
  s.io.run();
}

void sleep(work& w) {
  static histogram late;
  std::minstd_rand random(1);
  asio::io_context io{1};
  long wakes = 0;
  std::vector<std::unique_ptr<asio::steady_timer>> timers;
  auto again = [&](auto& again, asio::steady_timer& t) -> void {
    auto until =
        asio::steady_timer::clock_type::now() + std::chrono::microseconds(random() % 1'000'000);
    t.expires_at(until);
    t.async_wait([&, until](auto) {
      late.add(
          std::chrono::duration<double>(asio::steady_timer::clock_type::now() - until).count());
      wakes++;
      again(again, t);
    });
  };
  for (long i = 0; i < w.n; i++) again(again, *timers.emplace_back(new asio::steady_timer(io)));
  io.run_for(std::chrono::seconds(1));
  late = {};
  w.begin();
  wakes = 0;
  io.run_for(std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::duration<double>(w.length)));
  w.ops = wakes;
  w.end();
  w.report_lateness(late);
}

}  // namespace

int main(int argc, char** argv) {
  return contend(argc, argv,
                 {{"echo", echo, question::once},
                  {"echo_spawn", echo_spawn, question::once},
                  {"sleep", sleep, question::once}});
}
