// In place of lib/scheduler/timers.hpp: no fiber has a deadline.
#pragma once

#include "fiber/fiber.hpp"

namespace tendril::core {

struct timers {
  bool empty() const noexcept { return true; }
  nanoseconds next() const noexcept { return INT64_MAX; }
  bool start(fiber*, nanoseconds, bool, nanoseconds) noexcept { return true; }
  void cancel(fiber*) noexcept {}
  template <class Wake>
  void run(nanoseconds, Wake) noexcept {}
  void clear() noexcept {}
};

}  // namespace tendril::core
