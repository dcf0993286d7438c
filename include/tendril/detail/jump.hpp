// The inline jump from one context to another. Not for programs. (aarch64 uses Boost.Context's
// jump_fcontext.)
//
// x86_64: a jump saves its frame below the stack pointer of the fiber that leaves:
//
//    0 MXCSR   4 x87 control word   8 r12   16 r13   24 r14   32 r15   40 rbx   48 rbp   56 where to go on
//
// This function, the one in lib/base/arch/jump_x86_64.S, and the first frame of a new context
// (arch::make_context) use that layout. This function is compiled into programs, so the layout is
// part of the library's binary interface. It does not depend on Boost.Context, whose frames differ
// between versions (1.83 has room for a stack guard, a build for shadow stacks has one more word):
// the program may have another version than the library was built with.
//
// There are two differences from jump_fcontext. The floating-point control words are set only where
// they differ, which halves the time of a jump. And MXCSR's status flags are left as they are, as
// the ABI allows for any call: they differ between a fiber that has calculated and one that has
// not, and setting them takes 25 ns.
#pragma once

#include "export.hpp"

namespace tendril::core {

// The result of a switch when it returns: it comes from the fiber that switched here. Each function
// that returns a switch_result has a second half, which must be called with it at once and on the
// same fiber.
//
// There are two halves because a processor predicts where a function returns to from the last call.
// After a switch, that call was another fiber's, so each mispredicted return costs more than the
// whole switch. The first half ends with a tail call of the switch, which returns directly to the
// caller; the second half returns as usual.
struct switch_result {
  void* context;  // where `from` was suspended; if there was no switch, the reason
  // the fiber that switched here, possibly with post_switch_bit; that bit alone: there was no
  // switch
  void* from;
};

#ifdef __x86_64__
// Resumes the context `to` and passes it `cargo`. Returns what the next jump to here passes.
[[gnu::always_inline]] inline switch_result jump(void* to, void* cargo) noexcept {
  switch_result a;
  __asm__ volatile(
      "lea -128-64(%%rsp), %%rsp\n\t"  // the compiler may keep data below the stack pointer
      "stmxcsr (%%rsp)\n\t"
      "fnstcw 4(%%rsp)\n\t"
      "lea 1f(%%rip), %%rax\n\t"
      "mov %%rbx, 40(%%rsp)\n\t"
      "mov %%rbp, 48(%%rsp)\n\t"
      "mov %%rax, 56(%%rsp)\n\t"
      "mov (%%rsp), %%ecx\n\t"
      "movzwl 4(%%rsp), %%r9d\n\t"
      "mov %%rsp, %%rax\n\t"
      "mov %%rdi, %%rsp\n\t"
      "mov 56(%%rsp), %%r8\n\t"
      "xor (%%rsp), %%ecx\n\t"
      "xor 4(%%rsp), %%r9w\n\t"
      "and $0xffc0, %%ecx\n\t"  // ignore MXCSR's status flags
      "or %%r9w, %%cx\n\t"
      "jne 3f\n"
      "2:\tmov 8(%%rsp), %%r12\n\t"
      "mov 16(%%rsp), %%r13\n\t"
      "mov 24(%%rsp), %%r14\n\t"
      "mov 32(%%rsp), %%r15\n\t"
      "mov 40(%%rsp), %%rbx\n\t"
      "mov 48(%%rsp), %%rbp\n\t"
      "lea 64(%%rsp), %%rsp\n\t"
      "mov %%rsi, %%rdx\n\t"  // the results, for a context that resumes at 1
      "mov %%rax, %%rdi\n\t"  // the arguments, for a context that begins
      "jmp *%%r8\n"
      "3:\tmov (%%rax), %%ecx\n\t"  // keep the current status flags
      "xor (%%rsp), %%ecx\n\t"
      "and $0x3f, %%ecx\n\t"
      "xor %%ecx, (%%rsp)\n\t"
      "ldmxcsr (%%rsp)\n\t"
      "fldcw 4(%%rsp)\n\t"
      "jmp 2b\n"
      "1:\tlea 128(%%rsp), %%rsp"
      : "=a"(a.context), "=d"(a.from), "+D"(to), "+S"(cargo)
      :
      : "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2", "xmm3",
        "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
        "xmm15", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)",
#ifdef __AVX512F__
        "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",
        "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k0", "k1", "k2", "k3", "k4", "k5",
        "k6", "k7",
#endif
        "memory", "cc");
  return a;
}
#else
TENDRIL_API switch_result jump(void* to, void* cargo) noexcept;
#endif

}  // namespace tendril::core
