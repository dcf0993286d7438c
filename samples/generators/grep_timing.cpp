// The same filter three times, as a coroutine, as an object and as a closure, and how long a call of each takes.
//
//   grep_timing [CALLS]   a million

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <tendril/generator.hpp>
#include <variant>

namespace {

// Where the matches go.
struct counter {
  long matches = 0;
  void send(std::string_view) { matches++; }
};

bool matches(std::string_view line, std::string_view pattern) { return line.find(pattern) != line.npos; }

using line_sink = tendril::generator<std::monostate, std::string_view>;

line_sink grep_coroutine(std::string pattern, counter& target) {
  line_sink sink([pattern, &target] {
    while (auto line = line_sink::yield({})) {
      if (matches(*line, pattern)) target.send(*line);
    }
  });
  sink.next();
  return sink;
}

class grep_handler {
 public:
  grep_handler(std::string pattern, counter& target) : pattern_(std::move(pattern)), target_(target) {}
  virtual ~grep_handler() = default;
  virtual void send(std::string_view line) {
    if (matches(line, pattern_)) target_.send(line);
  }

 private:
  std::string pattern_;
  counter& target_;
};

std::function<void(std::string_view)> grep_closure(std::string pattern, counter& target) {
  return [pattern, &target](std::string_view line) {
    if (matches(line, pattern)) target.send(line);
  };
}

template <class Send>
void time(const char* what, long calls, counter& target, Send send) {
  target.matches = 0;
  std::clock_t start = std::clock();  // CPU time: what else the machine does is not counted
  for (long i = 0; i < calls; i++) send(i % 2 ? "python is nice" : "so are snakes");
  double seconds = double(std::clock() - start) / CLOCKS_PER_SEC;
  std::printf("%s: %ld matches, %.1f ns each call\n", what, target.matches, seconds * 1e9 / double(calls));
}

}  // namespace

int main(int argc, char** argv) {
  long calls = argc > 1 ? std::atol(argv[1]) : 1'000'000;
  counter target;
  line_sink coroutine = grep_coroutine("python", target);
  grep_handler object("python", target);
  auto closure = grep_closure("python", target);
  time("coroutine", calls, target, [&](std::string_view line) { coroutine.send(line); });
  time("object", calls, target, [&](std::string_view line) { object.send(line); });
  time("closure", calls, target, [&](std::string_view line) { closure(line); });
}
