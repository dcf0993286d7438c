// Points in time on CLOCK_MONOTONIC, in nanoseconds.
#pragma once

#include <time.h>

#include <cstdint>

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

// The time now. Reads the vDSO, so it costs no system call and does not touch errno.
inline nanoseconds now() noexcept {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}

}  // namespace tendril::core
