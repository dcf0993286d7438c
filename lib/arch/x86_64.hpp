// What Tendril needs to know of x86_64: the system call instruction and a cheap clock.
#pragma once

#include <cstdint>

namespace tendril::arch {

// One system call; returns what the kernel returns (a value, or -errno), never touches errno.
inline long system_call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                        long f = 0) noexcept {
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

// A free-running counter, used only to notice that "a while" has passed; its rate is not known exactly.
inline std::uint64_t ticks() noexcept { return __builtin_ia32_rdtsc(); }
// About a tenth of a millisecond of ticks() on the machines of today (2 to 4 GHz).
inline std::uint64_t ticks_per_tenth_ms() noexcept { return 300'000; }

inline void relax() noexcept { __builtin_ia32_pause(); }

inline constexpr bool signal_needs_restorer = true;
// Where a signal handler installed by a raw rt_sigaction returns to; debuggers know it by these very bytes.
__attribute__((naked, noinline)) inline void signal_return() noexcept {
  __asm__ volatile("mov $15, %rax\n\tsyscall");
}

// The stack pointer of the caller, near enough to compare with a frame address.
inline const void* stack_pointer() noexcept { return __builtin_frame_address(0); }

}  // namespace tendril::arch
