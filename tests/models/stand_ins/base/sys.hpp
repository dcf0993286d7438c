// In place of lib/base/sys.hpp: the system calls that the modelled code makes. Time stands still.
#pragma once

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "base/atomic.hpp"

namespace tendril::core::arch {

inline void relax() noexcept { models::give_way(); }
inline std::uint64_t ticks() noexcept { return 0; }
inline std::uint64_t ticks_per_tenth_ms() noexcept { return 1; }
inline void* thread_pointer() noexcept { return nullptr; }

}  // namespace tendril::core::arch

namespace tendril::core::sys {

inline int futex_wait(const atomic<std::uint32_t>* word, std::uint32_t expected) noexcept {
  return word->sleep_while(expected) ? 0 : -EAGAIN;
}
inline void futex_wake(const atomic<std::uint32_t>* word, int n) noexcept {
  word->wake(unsigned(n));
}
// Of the others only sched_yield does something.
template <class... Arguments>
long call(long number, Arguments...) noexcept {
  if (number == SYS_sched_yield) models::give_way();
  return 0;
}
inline constinit std::atomic<bool> has_filter{false};
inline int gettid() noexcept { return 1; }
inline int getpid() noexcept { return 1; }
inline void clock_gettime(clockid_t, timespec*) noexcept {}
inline void* map(std::size_t size) noexcept { return calloc(1, size); }
inline void* remap(void*, std::size_t, std::size_t) noexcept { return nullptr; }
inline void unmap(void* p, std::size_t) noexcept { free(p); }
inline void die(const char* what) noexcept { models::expect(false, what); }

}  // namespace tendril::core::sys
