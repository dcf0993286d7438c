// A coroutine that is sent lines until it is closed. close() raises generator_exit at its yield
// (Python: GeneratorExit), so it can print a message; its local objects are destroyed as by any
// exception.

#include <cstdio>
#include <string>
#include <tendril/generator.hpp>
#include <variant>

namespace {

using line_sink = tendril::generator<std::monostate, std::string>;

line_sink grep(std::string pattern) {
  line_sink sink([pattern] {
    std::printf("Looking for %s\n", pattern.c_str());
    try {
      for (;;) {
        std::string line = line_sink::yield({}).value();
        if (line.find(pattern) != line.npos) std::puts(line.c_str());
      }
    } catch (const tendril::generator_exit&) {
      std::puts("Going away. Goodbye");
      throw;
    }
  });
  sink.next();  // runs it up to the first yield, which then waits for a line
  return sink;
}

}  // namespace

int main() {
  line_sink g = grep("python");
  g.send("Yeah, but no, but yeah, but no");
  g.send("A series of tubes");
  g.send("python generators rock!");
  g.close();
  std::puts(g.done() ? "closed" : "still there");
}
