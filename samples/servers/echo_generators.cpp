// Echo server, fifth of seven ways: one thread, a selector, and a generator for each client, which
// yields the event that it waits for. The code reads like the blocking one again; the loop below is
// the scheduler.

#include <exception>
#include <memory>
#include <string>
#include <system_error>
#include <tendril/generator.hpp>
#include <tendril/selector.hpp>

#include "listen.hpp"

namespace {

// Yielded by a generator: resume it when this descriptor is ready.
struct readiness {
  int descriptor;
  unsigned events;
};
using coroutine = tendril::generator<readiness>;
using selector = tendril::selector<std::shared_ptr<coroutine>>;

std::string recv(tendril::net::socket& s) {
  coroutine::yield({s.descriptor(), selector::read});
  return s.recv(4096);
}

void send_all(tendril::net::socket& s, std::string_view data) {
  while (!data.empty()) {
    coroutine::yield({s.descriptor(), selector::write});
    data.remove_prefix(s.send(data, MSG_DONTWAIT));
  }
}

void echo(tendril::net::socket& client) try {
  for (std::string data; !(data = recv(client)).empty();) send_all(client, data);
} catch (const std::system_error&) {
  // The client has closed.
}

class scheduler {
 public:
  void spawn(coroutine c) { step(std::make_shared<coroutine>(std::move(c))); }
  void run() {
    for (;;) {
      for (auto& [key, events] : selector_.select()) step(selector_.unregister(key.fd).data);
    }
  }

 private:
  void step(std::shared_ptr<coroutine> c) {
    if (auto until = c->next()) selector_.register_(until->descriptor, until->events, c);
  }
  selector selector_;
};

}  // namespace

int main(int argc, char** argv) try {
  tendril::net::socket listener = listen_on_argument(argc, argv);
  scheduler loop;
  loop.spawn(coroutine([&] {
    for (;;) {
      coroutine::yield({listener.descriptor(), selector::read});
      auto client = std::make_shared<tendril::net::socket>(listener.accept());
      loop.spawn(coroutine([client] { echo(*client); }));
    }
  }));
  loop.run();
} catch (const std::exception& e) {
  std::fprintf(stderr, "echo_generators: %s\n", e.what());
  return 1;
}
