// vfork(2). It returns twice into the caller's frame, so it cannot be an ordinary function: no
// frame of its own may be on the stack between the two returns. The child records that it shares
// the hub's memory; the parent, which runs again when the child has called exec or has exited,
// removes that record.
#include <errno.h>
#include <sys/types.h>

#include <tendril/posix.hpp>

extern "C" {

__attribute__((visibility("hidden"), used)) void tendril_vfork_returned(pid_t child) noexcept {
  tendril::posix::memory_borrowed(child == 0 ? 1 : -1);
}
__attribute__((visibility("hidden"), used)) long tendril_vfork_failed(int error) noexcept {
  errno = error;
  return -1;
}

#if defined(__x86_64__)
__asm__(R"(
  .text
  .globl vfork, __vfork
  .type vfork, @function
  .type __vfork, @function
vfork:
__vfork:
  .cfi_startproc
  endbr64
  popq %rdi                   # the return address: the child's calls would overwrite it
  .cfi_adjust_cfa_offset -8
  .cfi_register %rip, %rdi
  movl $58, %eax
  syscall
  pushq %rdi
  .cfi_adjust_cfa_offset 8
  .cfi_rel_offset %rip, 0
  cmpq $-4095, %rax
  jae 1f
  pushq %rax
  .cfi_adjust_cfa_offset 8
  movl %eax, %edi
  call tendril_vfork_returned
  popq %rax
  .cfi_adjust_cfa_offset -8
  ret
1:
  negl %eax
  movl %eax, %edi
  subq $8, %rsp
  .cfi_adjust_cfa_offset 8
  call tendril_vfork_failed
  addq $8, %rsp
  .cfi_adjust_cfa_offset -8
  ret
  .cfi_endproc
  .size vfork, .-vfork
  .size __vfork, .-__vfork
)");
#elif defined(__aarch64__)
__asm__(R"(
  .text
  .globl vfork, __vfork
  .type vfork, %function
  .type __vfork, %function
vfork:
__vfork:
  .cfi_startproc
  mov x0, #0x4111             // CLONE_VFORK | CLONE_VM | SIGCHLD
  mov x1, #0
  mov x2, #0
  mov x3, #0
  mov x4, #0
  mov x8, #220                // clone
  svc #0
  stp x29, x30, [sp, #-32]!
  .cfi_adjust_cfa_offset 32
  .cfi_rel_offset x29, 0
  .cfi_rel_offset x30, 8
  cmn x0, #4095
  b.cs 1f
  str x0, [sp, #16]
  bl tendril_vfork_returned
  ldr x0, [sp, #16]
  b 2f
1:
  neg w0, w0
  bl tendril_vfork_failed
2:
  ldp x29, x30, [sp], #32
  .cfi_adjust_cfa_offset -32
  .cfi_restore x29
  .cfi_restore x30
  ret
  .cfi_endproc
  .size vfork, .-vfork
  .size __vfork, .-__vfork
)");
#endif
}
