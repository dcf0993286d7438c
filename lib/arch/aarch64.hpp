// What Tendril needs to know of aarch64: the system call instruction and a cheap clock.
#pragma once

#include <cstdint>

namespace tendril::arch {

// One system call; returns what the kernel returns (a value, or -errno), never touches errno.
inline long system_call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                        long f = 0) noexcept {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
}

// A free-running counter, used only to notice that "a while" has passed.
inline std::uint64_t ticks() noexcept {
  std::uint64_t t;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
  return t;
}
// A tenth of a millisecond of ticks().
inline std::uint64_t ticks_per_tenth_ms() noexcept {
  std::uint64_t hz;
  __asm__("mrs %0, cntfrq_el0" : "=r"(hz));
  return hz / 10'000;
}

inline void relax() noexcept { __asm__ volatile("yield"); }

// A signal handler installed by a raw rt_sigaction returns by itself: the kernel brings the code.
inline constexpr bool signal_needs_restorer = false;
inline constexpr void (*signal_return)() noexcept = nullptr;

// The stack pointer of the caller, near enough to compare with a frame address.
inline const void* stack_pointer() noexcept { return __builtin_frame_address(0); }

}  // namespace tendril::arch
