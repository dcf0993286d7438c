#include "scheduler/memory_trim.hpp"

#include "fiber/lifetime.hpp"

namespace tendril::core {

namespace {

constexpr nanoseconds interval = 1'000'000'000;
constexpr std::size_t most_idle_at_once = 1024;

}  // namespace

nanoseconds memory_trim::run(fiber_home& home, nanoseconds now) noexcept {
  if (now >= due_) {
    using stack_pool::trimmed::nothing_left, stack_pool::trimmed::partly;
    auto fibers_are = give_back_idle(&home, most_idle_at_once) ? partly : home.stacks.trim();
    auto threads_are = nothing_left;
    if (fibers_are != partly && of_threads) threads_are = of_threads();
    bool in_part = fibers_are == partly || threads_are == partly;
    left_some_ = fibers_are != nothing_left || threads_are != nothing_left;
    due_ = in_part ? now : now + interval;
  }
  return is_needed(home) ? due_ : INT64_MAX;
}

}  // namespace tendril::core
