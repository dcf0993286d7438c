#include "fiber/cpu_time.hpp"

namespace tendril::core {

// A sequence lock: a reader that sees a value stored here also sees that `changes` was odd. (Fences
// would do as well, but the thread sanitizer does not understand them.)
void count_cpu_time(thread_storage& running, thread_storage& next, fiber_home& home) noexcept {
  auto& cpu = home.cpu;
  constexpr auto relaxed = std::memory_order_relaxed, release = std::memory_order_release;
  unsigned changes = cpu.changes.load(relaxed);
  nanoseconds now = time_of(CLOCK_THREAD_CPUTIME_ID);
  cpu.changes.store(changes + 1, relaxed);
  running.cpu_time.store(running.cpu_time.load(relaxed) + now - cpu.counted.load(relaxed), release);
  cpu.counted.store(now, release);
  cpu.user.store(&next, release);
  cpu.changes.store(changes + 2, release);
}

nanoseconds cpu_time_elsewhere(const thread_storage& t, const fiber_home& home,
                               clockid_t homes_clock) noexcept {
  auto& cpu = home.cpu;
  constexpr auto acquire = std::memory_order_acquire;
  for (;;) {
    unsigned changes = cpu.changes.load(acquire);
    nanoseconds used = t.cpu_time.load(acquire);
    if (cpu.user.load(acquire) == &t) used += time_of(homes_clock) - cpu.counted.load(acquire);
    if (!(changes & 1) && cpu.changes.load(std::memory_order_relaxed) == changes) return used;
    arch::relax();
  }
}

}  // namespace tendril::core
