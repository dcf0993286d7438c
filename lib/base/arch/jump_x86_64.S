// The jump of tendril/detail/jump.hpp as a function, for callers that have nothing left to do after
// it and so make a tail call; and the first instructions of a new context.
//
// A jump changes the stack but not the processor's shadow stack (CET). So this file deliberately
// lacks the note that marks an object as fit for shadow stacks: the linker then does not mark the
// library as fit either, and the C library does not enable shadow stacks in a program that loads
// it.

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
  mov %rsi, %rdx  // the result, if the target waits in a jump
  mov %rax, %rdi  // the arguments, if the target is a new context
  jmp *%r8
  .cfi_adjust_cfa_offset 64
2:
  mov (%rax), %ecx  // keep the current status flags
  xor (%rsp), %ecx
  and $STATUS, %ecx
  xor %ecx, (%rsp)
  ldmxcsr (%rsp)
  fldcw 4(%rsp)
  jmp 1b
  .cfi_endproc
  .size tendril_jump, . - tendril_jump

  // A new context (arch::make_context) starts here, with the function to call in rbx and its
  // arguments in rdi and rsi. The function never returns. Unwinders take this for the end of the
  // stack.
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
