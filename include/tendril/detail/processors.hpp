// How many processors the calling thread may use. Not for programs.
#pragma once

#include <errno.h>
#include <sched.h>

#include <memory>

namespace tendril::detail {

// At least 1. (sched_getaffinity(2))
inline unsigned usable_processors() noexcept {
  // The kernel refuses a set that is smaller than its own.
  for (int n = CPU_SETSIZE; n <= (1 << 20); n *= 2) {
    struct frees {
      void operator()(cpu_set_t* s) const noexcept { CPU_FREE(s); }
    };
    std::unique_ptr<cpu_set_t, frees> set(CPU_ALLOC(std::size_t(n)));
    if (!set) break;
    std::size_t size = CPU_ALLOC_SIZE(std::size_t(n));
    if (::sched_getaffinity(0, size, set.get()) == 0) {
      int count = CPU_COUNT_S(size, set.get());
      return count > 0 ? unsigned(count) : 1;
    }
    if (errno != EINVAL) break;
  }
  return 1;
}

}  // namespace tendril::detail
