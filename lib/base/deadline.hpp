// Points in time on CLOCK_MONOTONIC, in nanoseconds.
#pragma once

#include <time.h>

#include <cstdint>

#include "base/sys.hpp"

namespace tendril::core {

using nanoseconds = std::int64_t;

struct deadline {
  nanoseconds at;

  static constexpr deadline never() noexcept { return {INT64_MAX}; }
  // `t` nanoseconds after `now`; a time-out too long to express is never.
  static constexpr deadline after(nanoseconds now, nanoseconds t) noexcept {
    if (t < 0) t = 0;
    return {t > INT64_MAX - now ? INT64_MAX : now + t};
  }
  constexpr bool is_never() const noexcept { return at == INT64_MAX; }
  constexpr bool passed(nanoseconds now) const noexcept { return at <= now; }
};

inline nanoseconds time_of(clockid_t clock) noexcept {
  timespec t{};
  sys::clock_gettime(clock, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}
inline nanoseconds now() noexcept { return time_of(CLOCK_MONOTONIC); }

}  // namespace tendril::core
