// What depends on the CPU, for aarch64: system calls, clocks, the thread pointer, contexts, signal
// frames, the layout of threads.
#pragma once

#include <boost/context/detail/fcontext.hpp>
#include <cstddef>
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
  __asm__ volatile("svc 0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
  return x0;
}

// Sends a request to valgrind, if the program runs under it: valgrind recognises this sequence of
// instructions, which has no effect otherwise (valgrind.h). Returns 0 without valgrind.
inline unsigned long ask_valgrind(unsigned long request, unsigned long a = 0,
                                  unsigned long b = 0) noexcept {
  const unsigned long question[6] = {request, a, b};
  register unsigned long x3 __asm__("x3") = 0;
  register const unsigned long* x4 __asm__("x4") = question;
  __asm__ volatile(
      "ror x12, x12, #3; ror x12, x12, #13; ror x12, x12, #51; ror x12, x12, #61; orr x10, x10, x10"
      : "+r"(x3)
      : "r"(x4)
      : "cc", "memory");
  return x3;
}
inline bool runs_on_valgrind() noexcept { return ask_valgrind(0x1001) != 0; }
// Registers one of our stacks, so that valgrind does not report a switch to it as an error.
inline void register_stack_with_valgrind(const void* base, const void* end) noexcept {
  ask_valgrind(0x1501, reinterpret_cast<unsigned long>(base), reinterpret_cast<unsigned long>(end));
}

// The vDSO's name for its clock_gettime: see vdso(7).
inline constexpr const char* vdso_clock_gettime = "__kernel_clock_gettime";

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

// Atomic operations need no spacing on this processor.
inline void space_locked() noexcept {}

// A signal handler installed by a raw rt_sigaction needs no restorer: the kernel supplies the code
// that returns from it.
inline constexpr bool signal_needs_restorer = false;
inline constexpr void (*signal_return)() noexcept = nullptr;

// Protection keys, see pkeys(7): not used here yet.
inline constexpr bool has_protection_keys = false;
inline std::uint32_t protection_rights() noexcept { return 0; }
inline void set_protection_rights(std::uint32_t) noexcept {}

// The thread pointer: where thread-local storage is found.
inline void* thread_pointer() noexcept { return __builtin_thread_pointer(); }
[[gnu::always_inline]] inline bool set_thread_pointer(void* p, bool) noexcept {
  __asm__ volatile("msr tpidr_el0, %0" : : "r"(p) : "memory");
  return true;
}
inline bool thread_pointer_by_instruction(unsigned long) noexcept { return true; }

// The jump as a function: Boost.Context's own. It returns with `ret`, and does not touch FPCR.
#define TENDRIL_JUMP "jump_fcontext"

// A context in the form that Boost.Context's jump expects, whatever its frames look like: the first
// jump to it calls `entry` with the two words of the switch result.
template <class Arrival>
void* make_context(void* top, std::size_t size, void (*entry)(Arrival)) noexcept {
  // Boost.Context's transfer_t under another name.
  static_assert(sizeof(Arrival) == sizeof(boost::context::detail::transfer_t));
  return boost::context::detail::make_fcontext(
      top, size, reinterpret_cast<void (*)(boost::context::detail::transfer_t)>(entry));
}

// What `tendril doctor` prints as the context switch.
inline constexpr const char* context_switch = "Boost.Context's jump_fcontext";

// The floating-point unit's status flags, see fenv(3).
inline std::uint32_t float_flags() noexcept {
  std::uint64_t fpsr;
  __asm__ volatile("mrs %0, fpsr" : "=r"(fpsr));
  return std::uint32_t(fpsr);
}
// Sets the flags to `wanted`.
inline void set_float_flags(std::uint32_t, std::uint32_t wanted) noexcept {
  __asm__ volatile("msr fpsr, %0" : : "r"(std::uint64_t(wanted)));
}
inline void inherit_float_control(void*) noexcept {}

// How the C library lays out a thread around its thread pointer (TLS variant I): the thread's
// descriptor below it, the storage above it. The stack and pointer guards belong to the process.
inline constexpr bool descriptor_before_tls = true;
struct thread_header {
  int multiple_threads;
  int in_global_scope;
};
inline void fill_thread_header(thread_header& h, const thread_header&) noexcept {
  h.multiple_threads = 1;
}
inline bool known_thread_header(const thread_header&) noexcept { return true; }

// Whether the code loads this system call number into x8 shortly before a system call instruction.
inline bool makes_system_call(const char* code, std::size_t size, std::uint32_t number) noexcept {
  const std::uint32_t* words = reinterpret_cast<const std::uint32_t*>(code);
  std::size_t count = size / 4;
  for (std::size_t i = 0; i < count; i++) {
    // mov x8 or w8
    if (words[i] != (0xd2800008 | number << 5) && words[i] != (0x52800008 | number << 5)) continue;
    for (std::size_t k = 1; k < 12 && i + k < count; k++) {
      if (words[i + k] == 0xd4000001 /* svc #0 */) return true;
    }
  }
  return false;
}

// The program counter, and the stack pointer, of code that a signal has interrupted.
template <class Context>
const void* program_counter(const Context& c) noexcept {
  return (const void*)c.uc_mcontext.pc;
}
template <class Context>
std::uintptr_t stack_pointer(const Context& c) noexcept {
  return std::uintptr_t(c.uc_mcontext.sp);
}

// If a signal interrupted code at a system call instruction (one that the kernel is about to
// restart, or that has not run yet), makes that call fail with `error` instead.
template <class Context>
void end_system_call(Context& c, int error) noexcept {
  if (*(const std::uint32_t*)c.uc_mcontext.pc != 0xd4000001 /* svc #0 */) return;
  c.uc_mcontext.pc += 4;
  c.uc_mcontext.regs[0] = (unsigned long long)-(long long)error;
}

// A system call made with the stack pointer set to `stack`, for calls that look at it
// (sigaltstack). Requires that all signals are blocked.
inline long system_call_on(void* stack, long number, long a) noexcept {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = 0;
  __asm__ volatile("mov x9, sp\n\tmov sp, %3\n\tsvc 0\n\tmov sp, x9"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(stack)
                   : "x9", "memory");
  return x0;
}

// The stack pointer of code that a signal has interrupted, and how many bytes below it may be in
// use.
template <class Context>
char* interrupted_stack(const Context& c) noexcept {
  return (char*)c.uc_mcontext.sp;
}
inline constexpr std::size_t red_zone = 0;

// Not implemented here: the handler stays on its stack.
template <class Context, class Info>
void begin_handler_on(char*, char*, int, Info*, Context*, void (*)(int, Info*, void*)) noexcept {}

// The caller's stack pointer, close enough to compare with a frame address.
inline const void* stack_pointer() noexcept { return __builtin_frame_address(0); }

}  // namespace tendril::arch
