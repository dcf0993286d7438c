// A producer that sends what it makes to each of two consumers.

#include <cstdio>
#include <string>
#include <tendril/generator.hpp>
#include <variant>

namespace {

// is sent numbers, and yields no values
using consumer_type = tendril::generator<std::monostate, int>;

consumer_type consumer(std::string name) {
  return consumer_type([name] {
    std::puts("--->starting eating baozi...");
    while (std::optional<int> baozi = consumer_type::yield({}))
      std::printf("[%s] is eating baozi %d\n", name.c_str(), *baozi);
  });
}

void producer(consumer_type& con, consumer_type& con2) {
  con.next();
  con2.next();
  for (int n = 1; n <= 5; n++) {
    con.send(n);
    con2.send(n);
    std::printf("\033[32;1m[producer]\033[0m is making baozi %d\n", n);
  }
}

}  // namespace

int main() {
  consumer_type con = consumer("c1"), con2 = consumer("c2");
  producer(con, con2);
}  // both are closed here, while they wait for more
