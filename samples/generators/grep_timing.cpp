// The same filter three times: as a coroutine, as an object and as a closure, each of which sends
// its matches to a coroutine that drops them. Prints the seconds that a million calls of each take.
//
//   grep_timing [CALLS]   a million

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <tendril/generator.hpp>
#include <variant>

namespace {

using line_sink = tendril::generator<std::monostate, std::string_view>;

bool contains(std::string_view line, std::string_view pattern) {
  return line.find(pattern) != line.npos;
}

// A coroutine.
line_sink grep(std::string pattern, line_sink& target) {
  return line_sink([pattern, &target] {
    while (auto line = line_sink::yield({})) {
      if (contains(*line, pattern)) target.send(*line);
    }
  });
}

// An object.
class grep_handler {
 public:
  grep_handler(std::string pattern, line_sink& target)
      : pattern_(std::move(pattern)), target_(target) {
    target_.next();
  }
  virtual ~grep_handler() = default;
  virtual void send(std::string_view line) {
    if (contains(line, pattern_)) target_.send(line);
  }

 private:
  std::string pattern_;
  line_sink& target_;
};

// A closure.
std::function<void(std::string_view)> grep_closure(std::string pattern, line_sink& target) {
  target.next();
  return [pattern, &target](std::string_view line) {
    if (contains(line, pattern)) target.send(line);
  };
}

// Where the lines go.
line_sink null() {
  return line_sink([] {
    while (line_sink::yield({})) {}
  });
}

template <class Send>
double timeit(long calls, Send send) {
  auto start = std::chrono::steady_clock::now();
  for (long i = 0; i < calls; i++) send("python is nice");
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

int main(int argc, char** argv) {
  long calls = argc > 1 ? std::atol(argv[1]) : 1'000'000;

  line_sink null1 = null();
  null1.next();
  line_sink p1 = grep("python", null1);
  p1.next();
  line_sink null2 = null();
  grep_handler p2("python", null2);
  line_sink null3 = null();
  auto p3 = grep_closure("python", null3);

  std::printf("coroutine: %.9g\n", timeit(calls, [&](std::string_view line) { p1.send(line); }));
  std::printf("object: %.9g\n", timeit(calls, [&](std::string_view line) { p2.send(line); }));
  std::printf("closure: %.9g\n", timeit(calls, [&](std::string_view line) { p3(line); }));
}
