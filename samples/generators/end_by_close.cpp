// A coroutine that is ended from outside: close() raises generator_exit (Python: GeneratorExit) at
// the yield where it waits.

#include <cstdio>
#include <string>
#include <tendril/generator.hpp>
#include <variant>

namespace {

using listener = tendril::generator<std::monostate, std::string>;

void exit_learn() {
  std::puts("Start");
  for (;;) {
    try {
      std::string info = listener::yield({}).value();
      std::puts(info.c_str());
    } catch (const tendril::generator_exit&) {
      std::puts("Exit");
      break;
    }
  }
}

}  // namespace

int main() {
  listener exit_coro(exit_learn);
  exit_coro.next();
  exit_coro.send("oh, I'm info1");
  exit_coro.send("Of course you are");
  exit_coro.close();
}
