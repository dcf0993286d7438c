// Boost.Context's fiber: the switch with a C++ interface, without a scheduler.
#include <boost/context/fiber.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>

#include "bench.hpp"

using namespace bench;
using boost::context::fiber;

namespace {

void two(work& w) {
  long sum = 0;
  fiber other([&sum](fiber&& from) {
    for (;; sum++) from = std::move(from).resume();
    return std::move(from);
  });
  w.begin();
  for (long i = 0; i < w.ops; i += 2) other = std::move(other).resume();
  w.end();
  check(sum == (w.ops + 1) / 2 - 1, "each switch adds one");
  new fiber(std::move(other));  // deliberately not unwound
}

void spawn(work& w) {
  boost::context::pooled_fixedsize_stack pool(64 * 1024);
  long sum = 0, i = 0;
  w.begin();
  for (; i < w.ops; i++) {
    fiber f(std::allocator_arg, pool, [&sum](fiber&& from) {
      sum++;
      return std::move(from);
    });
    std::move(f).resume();
  }
  w.end();
  check(sum == i, "all results came");
}

}  // namespace

int main(int argc, char** argv) { return contend(argc, argv, {{"switch", two}, {"spawn", spawn}}); }
