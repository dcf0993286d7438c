// One cook, two eaters: a producer that sends each of two consumers its half of what it makes.

#include <chrono>
#include <cstdio>
#include <string>
#include <tendril/generator.hpp>
#include <tendril/task.hpp>
#include <variant>

using namespace std::chrono_literals;

namespace {

using consumer_type = tendril::generator<std::monostate, int>;  // is sent numbers, and gives nothing back

consumer_type consumer(std::string name) {
  return consumer_type([name] {
    std::printf("%s 准备吃包子啦!\n", name.c_str());
    while (std::optional<int> baozi = consumer_type::yield({}))
      std::printf("包子[%d]来了,被[%s]吃了!\n", *baozi, name.c_str());
  });
}

void producer() {
  consumer_type a = consumer("A"), b = consumer("B");
  a.next();
  b.next();
  std::puts("老子开始准备做包子啦!");
  for (int i = 0; i < 10; i++) {
    tendril::sleep(10ms);
    std::puts("做了2个包子!");
    a.send(i);
    b.send(i);
  }
}  // both are closed here: they are still waiting for more

}  // namespace

int main() { producer(); }
