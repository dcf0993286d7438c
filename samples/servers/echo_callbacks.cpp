// Echo server, fourth of seven ways: one thread, a selector, and a callback for each event. The
// local variables of a loop have become members of an object.

#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <system_error>
#include <tendril/selector.hpp>

#include "listen.hpp"

namespace {

using callback = std::function<void()>;
using selector = tendril::selector<callback>;

class connection : public std::enable_shared_from_this<connection> {
 public:
  connection(selector& s, tendril::net::socket client) : selector_(s), client_(std::move(client)) {}
  void begin() {
    selector_.register_(client_.descriptor(), selector::read,
                        [me = shared_from_this()] { me->readable(); });
  }

 private:
  void readable() try {
    pending_ = client_.recv(4096);
    if (pending_.empty()) return end();
    selector_.modify(client_.descriptor(), selector::write,
                     [me = shared_from_this()] { me->writable(); });
  } catch (const std::system_error&) {
    end();
  }
  void writable() try {
    pending_.erase(0, client_.send(pending_, MSG_DONTWAIT));
    if (!pending_.empty()) return;
    selector_.modify(client_.descriptor(), selector::read,
                     [me = shared_from_this()] { me->readable(); });
  } catch (const std::system_error&) {
    end();
  }
  // the last callback is destroyed, and with it this object
  void end() { selector_.unregister(client_.descriptor()); }

  selector& selector_;
  tendril::net::socket client_;
  std::string pending_;
};

}  // namespace

int main(int argc, char** argv) try {
  tendril::net::socket listener = listen_on_argument(argc, argv);
  selector s;
  s.register_(listener.descriptor(), selector::read,
              [&] { std::make_shared<connection>(s, listener.accept())->begin(); });
  for (;;) {
    for (auto& [key, events] : s.select()) key.data();
  }
} catch (const std::exception& e) {
  std::fprintf(stderr, "echo_callbacks: %s\n", e.what());
  return 1;
}
