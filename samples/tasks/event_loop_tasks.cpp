// Tasks in an event loop, as in asyncio's documentation: three factorials, computed alternately.

#include <cstdio>
#include <string>
#include <tendril/event_loop.hpp>

using namespace std::chrono_literals;

namespace {

long factorial(const std::string& name, int number) {
  long f = 1;
  for (int i = 2; i <= number; i++) {
    std::printf("Task %s: Compute factorial(%d), currently i=%d...\n", name.c_str(), number, i);
    tendril::yield();
    f *= i;
  }
  std::printf("Task %s: factorial(%d) = %ld\n", name.c_str(), number, f);
  return f;
}

void hello_world(tendril::event_loop& loop) {
  std::puts("Hello World");
  loop.stop();
}

}  // namespace

int main() {
  tendril::event_loop loop;

  loop.call_soon(hello_world, std::ref(loop));
  loop.run_forever();

  std::vector tasks{loop.create_task(factorial, "A", 2), loop.create_task(factorial, "B", 3),
                    loop.create_task(factorial, "C", 4)};
  auto results = loop.run_until_complete([tasks] { return tendril::gather(tasks); });
  std::printf("[%ld, %ld, %ld]\n", results[0], results[1], results[2]);

  bool same = loop.run_until_complete([&] { return &tendril::get_running_loop() == &loop; });
  std::puts(same ? "the running loop is this one" : "the running loop is another");
}
