// Waits for its thread by a futex system call of its own, as libgomp and Go do.
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static int done;

static long futex(int operation, int value) {
#if defined(__x86_64__)
  long result;
  register long r10 __asm__("r10") = 0;
  __asm__ volatile("mov $202, %%eax\n\tsyscall"
                   : "=a"(result) : "D"(&done), "S"((long)operation), "d"((long)value), "r"(r10) : "rcx", "r11", "memory");
  return result;
#else
  register long x8 __asm__("x8");
  register long x0 __asm__("x0") = (long)&done;
  register long x1 __asm__("x1") = operation;
  register long x2 __asm__("x2") = value;
  register long x3 __asm__("x3") = 0;
  __asm__ volatile("mov x8, #98\n\tsvc #0" : "=r"(x8), "+r"(x0) : "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
#endif
}

static void* thread(void* main_tid) {
  printf("%s\n", syscall(SYS_gettid) == *(long*)main_tid ? "a fiber" : "a thread of the kernel");
  fflush(stdout);
  __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
  futex(1 /* FUTEX_WAKE */, 1);
  return NULL;
}

int main(void) {
  long tid = syscall(SYS_gettid);
  pthread_t t;
  if (pthread_create(&t, NULL, thread, &tid) != 0) return 1;
  while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) futex(0 /* FUTEX_WAIT */, 0);
  pthread_join(t, NULL);
  return 7;
}
