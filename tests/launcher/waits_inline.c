// Waits for its threads by an inline futex system call, as libgomp and Go do; with BY_ANY_NUMBER,
// by a stub for system calls by any number, as emulators do.
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <threads.h>
#include <unistd.h>

static int done;

#ifdef BY_ANY_NUMBER
static volatile long number = SYS_futex;
#endif

static long futex(int operation, int value) {
#if defined(__x86_64__) && defined(BY_ANY_NUMBER)
  long result;
  register long r10 __asm__("r10") = 0;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(&done), "S"((long)operation), "d"((long)value), "r"(r10)
                   : "rcx", "r11", "memory");
  return result;
#elif defined(BY_ANY_NUMBER)
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = (long)&done;
  register long x1 __asm__("x1") = operation;
  register long x2 __asm__("x2") = value;
  register long x3 __asm__("x3") = 0;
  __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
#elif defined(__x86_64__)
  long result;
  register long r10 __asm__("r10") = 0;
  __asm__ volatile("mov $202, %%eax\n\tsyscall"
                   : "=a"(result)
                   : "D"(&done), "S"((long)operation), "d"((long)value), "r"(r10)
                   : "rcx", "r11", "memory");
  return result;
#else
  register long x8 __asm__("x8");
  register long x0 __asm__("x0") = (long)&done;
  register long x1 __asm__("x1") = operation;
  register long x2 __asm__("x2") = value;
  register long x3 __asm__("x3") = 0;
  __asm__ volatile("mov x8, #98\n\tsvc #0"
                   : "=r"(x8), "+r"(x0)
                   : "r"(x1), "r"(x2), "r"(x3)
                   : "memory");
  return x0;
#endif
}

// The kernel's id of the running thread, even if gettid() is interposed.
static long kernels_tid(void) {
  char path[64] = "";
  long tid = 0;
  if (readlink("/proc/thread-self", path, sizeof path - 1) > 0) sscanf(path, "%*d/task/%ld", &tid);
  return tid;
}

static int thread(void* main_tid) {
  printf("%s\n", kernels_tid() == *(long*)main_tid ? "a fiber" : "a kernel thread");
  fflush(stdout);
  __atomic_store_n(&done, 1, __ATOMIC_RELEASE);
  futex(1 /* FUTEX_WAKE */, 1);
  return 0;
}
static void* posix_thread(void* main_tid) {
  thread(main_tid);
  return NULL;
}

int main(void) {
  long tid = kernels_tid();
  pthread_t t;
  if (pthread_create(&t, NULL, posix_thread, &tid) != 0) return 1;
  while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) futex(0 /* FUTEX_WAIT */, 0);
  pthread_join(t, NULL);
  done = 0;
  thrd_t c;
  if (thrd_create(&c, thread, &tid) != thrd_success) return 1;
  while (!__atomic_load_n(&done, __ATOMIC_ACQUIRE)) futex(0 /* FUTEX_WAIT */, 0);
  thrd_join(c, NULL);
  return 7;
}
