// What Tendril needs to know of x86_64: the system call instruction and a cheap clock.
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

// Whether valgrind runs the program. To it these rotations, which come to nothing, are a question (valgrind.h); RUNNING_ON_VALGRIND
// is the first that all of its tools answer.
inline bool runs_on_valgrind() noexcept {
  const unsigned long question[6] = {0x1001};
  unsigned long answer = 0;
  __asm__ volatile("rolq $3, %%rdi; rolq $13, %%rdi; rolq $61, %%rdi; rolq $51, %%rdi; xchgq %%rbx, %%rbx"
                   : "+d"(answer)
                   : "a"(question)
                   : "cc", "memory");
  return answer != 0;
}

// The kernel's clocks, as a function in the program's address space: see vdso(7).
inline constexpr const char* vdso_clock_gettime = "__vdso_clock_gettime";

// A free-running counter, used only to notice that "a while" has passed; its rate is not known exactly.
inline std::uint64_t ticks() noexcept { return __builtin_ia32_rdtsc(); }
// About a tenth of a millisecond of ticks() on the machines of today (2 to 4 GHz).
inline std::uint64_t ticks_per_tenth_ms() noexcept { return 300'000; }

inline void relax() noexcept { __builtin_ia32_pause(); }

// To be called shortly before an atomic operation: a locked instruction that comes close behind another one is slower than
// one with a plain store in between (Sapphire Rapids: locking and unlocking a mutex takes 15.7 ns instead of 12.9).
[[gnu::always_inline]] inline void space_locked() noexcept { [[maybe_unused]] volatile int store = 0; }

inline constexpr bool signal_needs_restorer = true;
// Where a signal handler installed by a raw rt_sigaction returns to, with its ucontext_t on top of the stack. Who
// unwinds the stack (a debugger; a thread that is cancelled amid the handler) is told where that has the registers, and
// looks for this by the address before the one returned to: hence the nop.
#define TENDRIL_SAVED(reg, at) ".cfi_escape 0x10," #reg ",3,0x77," #at "&0x7f|0x80," #at ">>7\n"
__asm__(
    ".pushsection .text.tendril_signal_return,\"axG\",@progbits,tendril_signal_return,comdat\n"
    ".weak tendril_signal_return\n"
    ".hidden tendril_signal_return\n"
    ".type tendril_signal_return,@function\n"
    ".cfi_startproc\n"
    ".cfi_signal_frame\n"
    ".cfi_escape 0x0f,4,0x77,160&0x7f|0x80,160>>7,0x06\n"  // the interrupted frame is at the rsp that was saved
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

// What a thread may do with the memory that has a protection key, see pkeys(7): two bits for each key, first "no access".
// Only where the kernel has given out such a key.
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
[[gnu::always_inline]] inline void set_thread_pointer(void* p, bool by_instruction) noexcept {
  if (by_instruction) [[likely]] {
    __asm__ volatile("wrfsbase %0" : : "r"(p) : "memory");
    return;
  }
  system_call(158 /* arch_prctl */, 0x1002 /* ARCH_SET_FS */, (long)p);
}
inline bool thread_pointer_by_instruction(unsigned long hwcap2) noexcept { return hwcap2 & 2; }

// The jump (tendril/detail/jump.hpp) as a function: jump_x86_64.S. It comes back by a jump.
#define TENDRIL_JUMP "tendril_jump"

// Who stands at sp in a jump goes on with the control words that are set here now.
[[gnu::always_inline]] inline void inherit_float_control(void* sp) noexcept {
  __asm__ volatile("stmxcsr (%0)\n\tfnstcw 4(%0)" : : "r"(sp) : "memory");
}

// The first frame of a context, of which tendril/detail/jump.hpp shows the layout: the jump to it calls `entry` with the
// arrival's two words, at the top of the stack.
extern "C" __attribute__((visibility("hidden"))) void tendril_begin() noexcept;
template <class Arrival>
void* make_context(void* top, std::size_t, void (*entry)(Arrival)) noexcept {
  static_assert(sizeof(Arrival) == 2 * sizeof(void*));  // passed in two registers
  void** frame = reinterpret_cast<void**>(reinterpret_cast<std::uintptr_t>(top) & ~std::uintptr_t(15)) - 8;
  inherit_float_control(frame);
  frame[5] = reinterpret_cast<void*>(entry);  // rbx
  frame[6] = nullptr;                         // rbp: the chain of frame pointers ends here
  frame[7] = reinterpret_cast<void*>(tendril_begin);
  return frame;
}

// What `tendril doctor` says of it.
inline constexpr const char* context_switch = "Tendril's own jump, on frames of its own";

// The floating-point units' status flags, see fenv(3): MXCSR's, above them those of the x87 unit.
[[gnu::always_inline]] inline std::uint32_t float_flags() noexcept {
  std::uint32_t sse;
  std::uint16_t x87;
  __asm__ volatile("stmxcsr %0\n\tfnstsw %1" : "=m"(sse), "=a"(x87));
  return (sse & 0x3f) | std::uint32_t(x87 & 0x3f) << 6;
}
// From what they are now.
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
// How the C library lays a thread out around its thread pointer (TLS variant II): the storage below it, the thread's
// descriptor, which begins with what the ABI knows, at it.
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
inline bool known_thread_header(const thread_header& h) noexcept { return h.self == &h && h.descriptor == &h; }

// Whether the code loads a system call's number into a register, and a system call instruction follows soon.
inline bool makes_system_call(const char* code, std::size_t size, std::uint32_t number) noexcept {
  const char* end = code + size;
  for (const char* p = code; (p = static_cast<const char*>(__builtin_memchr(p, int(number & 0xff), std::size_t(end - p))));
       p++) {
    std::uint32_t found;
    if (end - p < 64 || p == code) return false;
    __builtin_memcpy(&found, p, 4);
    if (found != number || (static_cast<unsigned char>(p[-1]) & 0xf8) != 0xb8 /* mov imm32, register */) continue;
    for (int i = 4; i < 48; i++) {
      if (p[i] == 0x0f && p[i + 1] == 0x05 /* syscall */) return true;
    }
  }
  return false;
}

// One instruction that ends at `end`, of those that stand before a system call: they move arguments into place, or ask
// whether to make it. Reads up to 8 bytes back. Length 0: it is no such. There are more lengths than one if bytes before it
// look like a prefix.
struct setup_instruction {
  int length = 0;
  enum { other, number_constant, number_variable } sets = other;
};
inline setup_instruction setup_instruction_before(const unsigned char* end, bool prefixed) noexcept {
  auto is_prefix = [](unsigned char c) { return (c & 0xf0) == 0x40; };
  int p = prefixed ? 1 : 0;
  auto known = [&](int length, int register_number, bool extended, bool constant) {
    setup_instruction i;
    i.length = length + p;
    if (prefixed && !is_prefix(end[-i.length])) return setup_instruction{};
    if (register_number == 0 && !extended) {
      i.sets = constant ? setup_instruction::number_constant : setup_instruction::number_variable;
    }
    return i;
  };
  auto extension = [&](int length, unsigned char bit) { return prefixed && (end[-length - 1] & bit); };
  // Between registers.
  if (end[-1] >= 0xc0) {
    int reg = end[-1] >> 3 & 7, rm = end[-1] & 7;
    switch (end[-2]) {
      case 0x89: return known(2, rm, extension(2, 1), false);
      case 0x8b: case 0x63: return known(2, reg, extension(2, 4), false);
      case 0x31: case 0x33: if (reg == rm) return known(2, rm, extension(2, 1), true); break;
      case 0x85: return known(2, -1, false, false);
    }
  }
  // From memory.
  auto loads = [](unsigned char c) { return c == 0x8b || c == 0x63 || c == 0x8d; };
  auto from = [&](int length, unsigned char modrm) { return known(length, modrm >> 3 & 7, extension(length, 4), false); };
  if (loads(end[-2]) && end[-1] < 0x40 && (end[-1] & 7) != 4 && (end[-1] & 7) != 5) return from(2, end[-1]);
  if (loads(end[-3]) && (end[-2] & 0xc0) == 0x40 && (end[-2] & 7) != 4) return from(3, end[-2]);
  if (loads(end[-4]) && (end[-3] & 0xc7) == 0x44 && end[-2] == 0x24) return from(4, end[-3]);
  if (loads(end[-6]) && (end[-5] & 0xc0) == 0x80 && (end[-5] & 7) != 4) return from(6, end[-5]);
  if (loads(end[-7]) && (end[-6] & 0xc7) == 0x84 && end[-5] == 0x24) return from(7, end[-6]);
  // Constants.
  if ((end[-5] & 0xf8) == 0xb8) return known(5, end[-5] & 7, extension(5, 1), true);
  if (prefixed && end[-6] == 0xc7 && (end[-5] & 0xf8) == 0xc0) return known(6, end[-5] & 7, extension(6, 1), true);
  if (end[-3] == 0x83 && end[-2] >= 0xc0) return known(3, -1, false, false);
  // Whether to make it: a comparison, a test, a jump.
  if ((end[-2] & 0xf0) == 0x70 && !prefixed) return known(2, -1, false, false);
  if (end[-6] == 0x0f && (end[-5] & 0xf0) == 0x80 && !prefixed) return known(6, -1, false, false);
  if (end[-4] == 0x83 && (end[-3] & 0xf8) == 0x78) return known(4, -1, false, false);
  if (end[-7] == 0xf7 && (end[-6] & 0xf8) == 0x40) return known(7, -1, false, false);
  if ((end[-1] & 0xf8) == 0x50) return known(1, -1, false, false);
  return {};
}
// Whether the number of the system call instruction at `at` is not constant, as far as the instructions before show.
inline bool number_varies(const unsigned char* start, const unsigned char* at, int most = 14) noexcept {
  if (most == 0 || at - start < 16) return false;
  for (int prefix = 1; prefix >= 0; prefix--) {
    setup_instruction i = setup_instruction_before(at, prefix != 0);
    if (!i.length || i.sets == setup_instruction::number_constant) continue;
    if (i.sets == setup_instruction::number_variable || number_varies(start, at - i.length, most - 1)) return true;
  }
  return false;
}
// What may follow a system call: a return, a look at the result, or its way elsewhere. (Else the bytes are hardly one.)
inline bool follows_system_call(const unsigned char* p) noexcept {
  switch (p[0]) {
    case 0xc3: case 0xc9: case 0xeb: return true;
    case 0x41: return (p[1] & 0xf8) == 0x58;
    case 0x48: return p[1] == 0x3d || p[1] == 0x85 || p[1] == 0x89 || p[1] == 0x8b || p[1] == 0x83 || p[1] == 0x98 || p[1] == 0x63;
    case 0x89: case 0x85: return p[1] >= 0xc0;
    default: return (p[0] & 0xf8) == 0x58;
  }
}
// Whether the code makes system calls whose number is not constant.
inline bool makes_any_system_call(const char* code, std::size_t size) noexcept {
  const auto* start = reinterpret_cast<const unsigned char*>(code);
  const unsigned char* end = start + size;
  for (const unsigned char* p = start;
       end - p > 4 && (p = static_cast<const unsigned char*>(__builtin_memchr(p, 0x0f, std::size_t(end - p - 4)))); p++) {
    if (p[1] == 0x05 && follows_system_call(p + 2) && number_varies(start, p)) return true;
  }
  return false;
}

// Where the code stands that a signal has interrupted.
template <class Context>
const void* program_counter(const Context& c) noexcept {
  return (const void*)c.uc_mcontext.gregs[16 /* REG_RIP */];
}
template <class Context>
std::uintptr_t stack_pointer(const Context& c) noexcept {
  return std::uintptr_t(c.uc_mcontext.gregs[15 /* REG_RSP */]);
}

// If a signal has interrupted code at a system call instruction (which the kernel is about to make again, or which has not
// been made yet), it fails with `error` instead.
template <class Context>
void end_system_call(Context& c, int error) noexcept {
  auto* at = (const unsigned char*)c.uc_mcontext.gregs[16 /* REG_RIP */];
  if (at[0] != 0x0f || at[1] != 0x05) return;
  c.uc_mcontext.gregs[16] += 2;
  c.uc_mcontext.gregs[13 /* REG_RAX */] = -error;
}

// A system call that is made with the stack pointer elsewhere, for one that asks where it is. With all signals blocked.
inline long system_call_on(void* stack, long number, long a) noexcept {
  long r;
  register long to __asm__("r12") = (long)stack;
  __asm__ volatile("xchg %%rsp, %%r12\n\tsyscall\n\txchg %%rsp, %%r12"
                   : "=a"(r), "+r"(to)
                   : "a"(number), "D"(a), "S"(0L)
                   : "rcx", "r11", "memory");
  return r;
}

// The stack pointer of code that a signal has interrupted; and how far below it may be in use.
template <class Context>
char* interrupted_stack(const Context& c) noexcept {
  return (char*)c.uc_mcontext.gregs[15 /* REG_RSP */];
}
inline constexpr std::size_t red_zone = 128;

// Moves the frame of a signal, whose handler runs now, to below `top`, where the handler begins once more. Returns only if
// there is no room above `bottom` (null: it is not known). What lies there: the address of the code that returns to the kernel,
// the context, the information, the floating-point units' state.
template <class Context, class Info>
void begin_handler_on(char* top, char* bottom, int signal, Info* info, Context* c, void (*handler)(int, Info*, void*)) noexcept {
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
  if (units) new_context->uc_mcontext.fpregs = reinterpret_cast<decltype(c->uc_mcontext.fpregs)>(new_units);
  Info* new_info = reinterpret_cast<Info*>(new_frame + std::uintptr_t((char*)info - frame));
  __asm__ volatile("mov %0, %%rsp\n\tjmp *%1" : : "r"(new_frame), "r"(handler), "D"(long(signal)), "S"(new_info), "d"(new_context)
                   : "memory");
  __builtin_unreachable();
}

// The stack pointer of the caller, near enough to compare with a frame address.
inline const void* stack_pointer() noexcept { return __builtin_frame_address(0); }

}  // namespace tendril::arch
