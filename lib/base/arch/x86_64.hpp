// What depends on the CPU, for x86_64: system calls, clocks, the thread pointer, contexts, signal
// frames, the layout of threads.
#pragma once

#include <cstddef>
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

// Sends a request to valgrind, if the program runs under it: valgrind recognises this sequence of
// instructions, which has no effect otherwise (valgrind.h). Returns 0 without valgrind.
inline unsigned long ask_valgrind(unsigned long request, unsigned long a = 0,
                                  unsigned long b = 0) noexcept {
  const unsigned long question[6] = {request, a, b};
  unsigned long answer = 0;
  __asm__ volatile(
      "rolq $3, %%rdi; rolq $13, %%rdi; rolq $61, %%rdi; rolq $51, %%rdi; xchgq %%rbx, %%rbx"
      : "+d"(answer)
      : "a"(question)
      : "cc", "memory");
  return answer;
}
inline bool runs_on_valgrind() noexcept { return ask_valgrind(0x1001) != 0; }
// Registers one of our stacks, so that valgrind does not report a switch to it as an error.
inline void register_stack_with_valgrind(const void* base, const void* end) noexcept {
  ask_valgrind(0x1501, reinterpret_cast<unsigned long>(base), reinterpret_cast<unsigned long>(end));
}

// The vDSO's name for its clock_gettime: see vdso(7).
inline constexpr const char* vdso_clock_gettime = "__vdso_clock_gettime";

// A free-running counter, used only to notice that "a while" has passed; its exact rate is not
// known.
inline std::uint64_t ticks() noexcept { return __builtin_ia32_rdtsc(); }
// About a tenth of a millisecond of ticks() on today's machines (2 to 4 GHz).
inline std::uint64_t ticks_per_tenth_ms() noexcept { return 300'000; }

inline void relax() noexcept { __builtin_ia32_pause(); }

// Call this shortly before an atomic operation: a locked instruction close behind another one is
// slower than with a plain store in between (Sapphire Rapids: locking and unlocking a mutex takes
// 15.7 ns without the store, 12.9 ns with it).
[[gnu::always_inline]] inline void space_locked() noexcept {
  [[maybe_unused]] volatile int store = 0;
}

inline constexpr bool signal_needs_restorer = true;
// Where a signal handler installed by a raw rt_sigaction returns to, with its ucontext_t on top of
// the stack. The CFI tells unwinders (a debugger; the cancellation of a thread inside the handler)
// where the ucontext_t has the registers. Unwinders look up the address before the return address:
// hence the nop.
#define TENDRIL_SAVED(reg, at) ".cfi_escape 0x10," #reg ",3,0x77," #at "&0x7f|0x80," #at ">>7\n"
__asm__(
    ".pushsection .text.tendril_signal_return,\"axG\",@progbits,tendril_signal_return,comdat\n"
    ".weak tendril_signal_return\n"
    ".hidden tendril_signal_return\n"
    ".type tendril_signal_return,@function\n"
    ".cfi_startproc\n"
    ".cfi_signal_frame\n"
    // the interrupted frame is at the rsp that was saved
    ".cfi_escape 0x0f,4,0x77,160&0x7f|0x80,160>>7,0x06\n"
    TENDRIL_SAVED(8, 40) TENDRIL_SAVED(9, 48) TENDRIL_SAVED(10, 56) TENDRIL_SAVED(11, 64) TENDRIL_SAVED(12, 72)
    TENDRIL_SAVED(13, 80) TENDRIL_SAVED(14, 88) TENDRIL_SAVED(15, 96) TENDRIL_SAVED(5, 104) TENDRIL_SAVED(4, 112)
    TENDRIL_SAVED(6, 120) TENDRIL_SAVED(3, 128) TENDRIL_SAVED(1, 136) TENDRIL_SAVED(0, 144) TENDRIL_SAVED(2, 152)
    TENDRIL_SAVED(7, 160) TENDRIL_SAVED(16, 168)
    "nop\n"
    "tendril_signal_return:\n"
    "mov $15, %rax\n"
    "syscall\n"
    ".cfi_endproc\n"
    ".size tendril_signal_return,.-tendril_signal_return\n"
    ".popsection");
#undef TENDRIL_SAVED
extern "C" __attribute__((visibility("hidden"))) void tendril_signal_return() noexcept;
inline constexpr void (*signal_return)() noexcept = tendril_signal_return;

// The thread's access rights to memory with protection keys, see pkeys(7): two bits for each key,
// the lower one "no access". To be used only once the kernel has handed out a key.
inline constexpr bool has_protection_keys = true;
inline std::uint32_t protection_rights() noexcept {
  std::uint32_t rights, ignored;
  __asm__ volatile("rdpkru" : "=a"(rights), "=d"(ignored) : "c"(0));
  return rights;
}
inline void set_protection_rights(std::uint32_t rights) noexcept {
  __asm__ volatile("wrpkru" : : "a"(rights), "c"(0), "d"(0) : "memory");
}

// The thread pointer: where thread-local storage is found.
inline void* thread_pointer() noexcept { return __builtin_thread_pointer(); }
// `by_instruction`: the kernel lets programs write the register themselves (AT_HWCAP2, bit 1).
// Returns false if a seccomp filter forbids the system call.
[[gnu::always_inline]] inline bool set_thread_pointer(void* p, bool by_instruction) noexcept {
  if (by_instruction) [[likely]] {
    __asm__ volatile("wrfsbase %0" : : "r"(p) : "memory");
    return true;
  }
  return system_call(158 /* arch_prctl */, 0x1002 /* ARCH_SET_FS */, (long)p) == 0;
}
inline bool thread_pointer_by_instruction(unsigned long hwcap2) noexcept { return hwcap2 & 2; }

// The jump (tendril/detail/jump.hpp) as a function: jump_x86_64.S. It returns by a jump, not by
// `ret`.
#define TENDRIL_JUMP "tendril_jump"

// Gives the context that waits in a jump at `sp` the control words that are set now.
[[gnu::always_inline]] inline void inherit_float_control(void* sp) noexcept {
  __asm__ volatile("stmxcsr (%0)\n\tfnstcw 4(%0)" : : "r"(sp) : "memory");
}

// The first frame of a context, laid out as tendril/detail/jump.hpp describes: the first jump to it
// calls `entry` with the two words of the switch result, at the top of the stack.
extern "C" __attribute__((visibility("hidden"))) void tendril_begin() noexcept;
template <class Arrival>
void* make_context(void* top, std::size_t, void (*entry)(Arrival)) noexcept {
  static_assert(sizeof(Arrival) == 2 * sizeof(void*));  // passed in two registers
  void** frame =
      reinterpret_cast<void**>(reinterpret_cast<std::uintptr_t>(top) & ~std::uintptr_t(15)) - 8;
  inherit_float_control(frame);
  frame[5] = reinterpret_cast<void*>(entry);  // rbx
  frame[6] = nullptr;                         // rbp: the chain of frame pointers ends here
  frame[7] = reinterpret_cast<void*>(tendril_begin);
  return frame;
}

// What `tendril doctor` prints as the context switch.
inline constexpr const char* context_switch = "Tendril's own jump, on frames of its own";

// The status flags of the floating-point units, see fenv(3): those of MXCSR, and above them those
// of the x87 unit.
[[gnu::always_inline]] inline std::uint32_t float_flags() noexcept {
  std::uint32_t sse;
  std::uint16_t x87;
  __asm__ volatile("stmxcsr %0\n\tfnstsw %1" : "=m"(sse), "=a"(x87));
  return (sse & 0x3f) | std::uint32_t(x87 & 0x3f) << 6;
}
// Changes the flags from `now` to `wanted`.
inline void set_float_flags(std::uint32_t now, std::uint32_t wanted) noexcept {
  std::uint32_t changed = now ^ wanted;
  if (changed & 0x3f) {
    std::uint32_t sse;
    __asm__ volatile("stmxcsr %0" : "=m"(sse));
    sse ^= changed & 0x3f;
    __asm__ volatile("ldmxcsr %0" : : "m"(sse));
  }
  if (changed >> 6) {
    struct {
      std::uint32_t control, status, rest[5];
    } x87;
    __asm__ volatile("fnstenv %0" : "=m"(x87));  // masks all exceptions, too
    x87.status ^= changed >> 6;
    __asm__ volatile("fldenv %0" : : "m"(x87));
  }
}
// How the C library lays out a thread around its thread pointer (TLS variant II): the storage below
// it, and at it the thread's descriptor, which begins with the part that the ABI fixes.
inline constexpr bool descriptor_before_tls = false;
struct thread_header {
  void* self;
  void* dtv;
  void* descriptor;
  int multiple_threads;
  int in_global_scope;
  std::uintptr_t sysinfo;
  std::uintptr_t stack_guard;
  std::uintptr_t pointer_guard;
  unsigned long unused[2];
  unsigned int features;
};
// Makes the header of a new thread; `mine` is the running thread's.
inline void fill_thread_header(thread_header& h, const thread_header& mine) noexcept {
  h.self = h.descriptor = &h;
  h.multiple_threads = 1;
  h.sysinfo = mine.sysinfo;
  h.stack_guard = mine.stack_guard;
  h.pointer_guard = mine.pointer_guard;
  h.features = mine.features;
}
inline bool known_thread_header(const thread_header& h) noexcept {
  return h.self == &h && h.descriptor == &h;
}

// Whether the code loads this system call number into a register shortly before a system call
// instruction.
inline bool makes_system_call(const char* code, std::size_t size, std::uint32_t number) noexcept {
  const char* end = code + size;
  for (const char* p = code; (p = static_cast<const char*>(
                                  __builtin_memchr(p, int(number & 0xff), std::size_t(end - p))));
       p++) {
    std::uint32_t found;
    if (end - p < 6) return false;
    __builtin_memcpy(&found, p, 4);
    if (p == code || found != number ||
        (static_cast<unsigned char>(p[-1]) & 0xf8) != 0xb8 /* mov imm32, register */)
      continue;
    for (int i = 4; i < 48 && i + 1 < end - p; i++) {
      if (p[i] == 0x0f && p[i + 1] == 0x05 /* syscall */) return true;
    }
  }
  return false;
}

// The program counter, and the stack pointer, of code that a signal has interrupted.
template <class Context>
const void* program_counter(const Context& c) noexcept {
  return (const void*)c.uc_mcontext.gregs[16 /* REG_RIP */];
}
template <class Context>
std::uintptr_t stack_pointer(const Context& c) noexcept {
  return std::uintptr_t(c.uc_mcontext.gregs[15 /* REG_RSP */]);
}

// If a signal interrupted code at a system call instruction (one that the kernel is about to
// restart, or that has not run yet), makes that call fail with `error` instead.
template <class Context>
void end_system_call(Context& c, int error) noexcept {
  auto* at = (const unsigned char*)c.uc_mcontext.gregs[16 /* REG_RIP */];
  if (at[0] != 0x0f || at[1] != 0x05) return;
  c.uc_mcontext.gregs[16] += 2;
  c.uc_mcontext.gregs[13 /* REG_RAX */] = -error;
}

// A system call made with the stack pointer set to `stack`, for calls that look at it
// (sigaltstack). Requires that all signals are blocked.
inline long system_call_on(void* stack, long number, long a) noexcept {
  long r;
  register long to __asm__("r12") = (long)stack;
  __asm__ volatile("xchg %%rsp, %%r12\n\tsyscall\n\txchg %%rsp, %%r12"
                   : "=a"(r), "+r"(to)
                   : "a"(number), "D"(a), "S"(0L)
                   : "rcx", "r11", "memory");
  return r;
}

// The stack pointer of code that a signal has interrupted, and how many bytes below it may be in
// use.
template <class Context>
char* interrupted_stack(const Context& c) noexcept {
  return (char*)c.uc_mcontext.gregs[15 /* REG_RSP */];
}
inline constexpr std::size_t red_zone = 128;

// Moves the frame of the signal whose handler runs now to below `top`, and starts the handler again
// there. Returns only if there is no room above `bottom` (null: unknown). The frame consists of the
// address of the code that returns to the kernel, the context, the siginfo, and the floating-point
// units' state.
template <class Context, class Info>
void begin_handler_on(char* top, char* bottom, int signal, Info* info, Context* c,
                      void (*handler)(int, Info*, void*)) noexcept {
  char* frame = (char*)c - sizeof(void*);
  std::size_t size = std::size_t((char*)info - frame) + 128;
  char* units = (char*)c->uc_mcontext.fpregs;
  std::size_t units_size = 512;
  if (units && (c->uc_flags & 1 /* UC_FP_XSTATE */)) {
    std::uint32_t said[2];
    __builtin_memcpy(said, units + 464, sizeof said);
    if (said[0] == 0x46505853 /* FP_XSTATE_MAGIC1 */) units_size = said[1];
  }
  auto at = reinterpret_cast<std::uintptr_t>(top);
  std::uintptr_t new_units = units ? (at - units_size) & ~std::uintptr_t(63) : at;
  std::uintptr_t new_frame = ((new_units - size) & ~std::uintptr_t(15)) - 8;
  if (bottom && (at - reinterpret_cast<std::uintptr_t>(bottom) < size + units_size + 128)) return;
  auto copy = [](std::uintptr_t to, const void* from, std::size_t n) {
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
  };
  if (units) copy(new_units, units, units_size);
  copy(new_frame, frame, size);
  Context* new_context = reinterpret_cast<Context*>(new_frame + sizeof(void*));
  if (units)
    new_context->uc_mcontext.fpregs = reinterpret_cast<decltype(c->uc_mcontext.fpregs)>(new_units);
  Info* new_info = reinterpret_cast<Info*>(new_frame + std::uintptr_t((char*)info - frame));
  __asm__ volatile("mov %0, %%rsp\n\tjmp *%1"
                   :
                   : "r"(new_frame), "r"(handler), "D"(long(signal)), "S"(new_info),
                     "d"(new_context)
                   : "memory");
  __builtin_unreachable();
}

// The caller's stack pointer, close enough to compare with a frame address.
inline const void* stack_pointer() noexcept { return __builtin_frame_address(0); }

}  // namespace tendril::arch
