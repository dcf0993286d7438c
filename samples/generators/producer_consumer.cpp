// A producer that sends items to a consumer and gets a reply for each. Each has its own stack, and
// no lock is needed.

#include <cstdio>
#include <string>
#include <tendril/generator.hpp>

namespace {

using consumer_type = tendril::generator<std::string, int>;  // yields replies, is sent numbers

consumer_type consumer() {
  return consumer_type([] {
    std::string reply;
    while (std::optional<int> n = consumer_type::yield(reply)) {
      std::printf("[CONSUMER] Consuming %d...\n", *n);
      reply = "200 OK";
    }
  });
}

void produce(consumer_type c) {
  c.next();  // runs it up to its first yield, which then waits for a value
  for (int n = 1; n <= 5; n++) {
    std::printf("[PRODUCER] Producing %d...\n", n);
    std::optional<std::string> reply = c.send(n);
    std::printf("[PRODUCER] Consumer return: %s\n", reply->c_str());
  }
  c.close();
}

}  // namespace

int main() { produce(consumer()); }
