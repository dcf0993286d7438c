// The jump of tendril/detail/jump.hpp as a function, for who has nothing left to do after it: a tail call. And where a
// context begins.
//
// A jump changes the stack and not the processor's shadow stack (CET). So this file, on purpose, has no note that says it
// would: without it the linker does not mark the library as fit for shadow stacks, and the C library gives none to a
// program that has it.

#define CONTROL 0xffc0 /* of MXCSR */
#define STATUS 0x3f

  .text
  .globl tendril_jump
  .hidden tendril_jump
  .type tendril_jump, @function
  .p2align 4
tendril_jump:
  .cfi_startproc
  lea -56(%rsp), %rsp
  .cfi_adjust_cfa_offset 56
  stmxcsr (%rsp)
  fnstcw 4(%rsp)
  mov %r12, 8(%rsp)
  mov %r13, 16(%rsp)
  mov %r14, 24(%rsp)
  mov %r15, 32(%rsp)
  mov %rbx, 40(%rsp)
  mov %rbp, 48(%rsp)
  mov (%rsp), %ecx
  movzwl 4(%rsp), %r9d
  mov %rsp, %rax
  mov %rdi, %rsp
  mov 56(%rsp), %r8
  xor (%rsp), %ecx
  xor 4(%rsp), %r9w
  and $CONTROL, %ecx
  or %r9w, %cx
  jne 2f
1:
  mov 8(%rsp), %r12
  mov 16(%rsp), %r13
  mov 24(%rsp), %r14
  mov 32(%rsp), %r15
  mov 40(%rsp), %rbx
  mov 48(%rsp), %rbp
  lea 64(%rsp), %rsp
  .cfi_adjust_cfa_offset -64
  mov %rsi, %rdx  // as the result of whoever waits in a jump
  mov %rax, %rdi  // as the arguments of whoever begins
  jmp *%r8
  .cfi_adjust_cfa_offset 64
2:
  mov (%rax), %ecx  // with the status flags of now
  xor (%rsp), %ecx
  and $STATUS, %ecx
  xor %ecx, (%rsp)
  ldmxcsr (%rsp)
  fldcw 4(%rsp)
  jmp 1b
  .cfi_endproc
  .size tendril_jump, . - tendril_jump

  // The first frame of a context (arch::make_context) goes on here: with the function to call in rbx, which never
  // returns, and its arguments in rdi and rsi. To who unwinds the stack, this is its end.
  .globl tendril_begin
  .hidden tendril_begin
  .type tendril_begin, @function
  .p2align 4
tendril_begin:
  .cfi_startproc
  .cfi_undefined rip
  call *%rbx
  ud2
  .cfi_endproc
  .size tendril_begin, . - tendril_begin

  .section .note.GNU-stack, "", @progbits
