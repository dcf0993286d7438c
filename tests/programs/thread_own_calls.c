// A program with a stub for system calls by any number, by which it waits, and a handler for every
// signal, as emulators have. The thread that wakes it must run meanwhile.
#include "threads.h"

#include <linux/futex.h>
#include <sys/syscall.h>

#if defined __x86_64__
long stub(long n, long a, long b, long c, long d);
__asm__(
    ".text\nstub:\n mov %rdi,%rax\n mov %rsi,%rdi\n mov %rdx,%rsi\n mov %rcx,%rdx\n mov %r8,%r10\n "
    "syscall\n ret\n");
#elif defined __aarch64__
long stub(long n, long a, long b, long c, long d);
__asm__(
    ".text\nstub:\n mov x8,x0\n mov x0,x1\n mov x1,x2\n mov x2,x3\n mov x3,x4\n svc #0\n ret\n");
#endif

static int word;
static void on(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)info, (void)context;
}
static void* wakes(void* p) {
  usleep(10000);
  __atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
  stub(SYS_futex, (long)&word, FUTEX_WAKE, 1, 0);
  return p;
}
static void* waits(void* p) {
  while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) != 2)
    stub(SYS_futex, (long)&word, FUTEX_WAIT, 1, 0);
  return p;
}

int main(void) {
  struct sigaction a;
  memset(&a, 0, sizeof a);
  a.sa_sigaction = on;
  a.sa_flags = SA_SIGINFO;
  sigfillset(&a.sa_mask);
  int installed = 0;
  for (int s = 1; s < NSIG; s++) installed += s != SIGALRM && sigaction(s, &a, NULL) == 0;
  printf("handlers: %d\n", installed);
  pthread_t t[3];
  pthread_create(&t[0], NULL, wakes, NULL);
  while (!__atomic_load_n(&word, __ATOMIC_SEQ_CST)) stub(SYS_futex, (long)&word, FUTEX_WAIT, 0, 0);
  printf("main was woken\n");
  for (int i = 1; i < 3; i++) pthread_create(&t[i], NULL, waits, NULL);
  usleep(10000);
  __atomic_store_n(&word, 2, __ATOMIC_SEQ_CST);
  while (stub(SYS_futex, (long)&word, FUTEX_WAKE, 2, 0) > 0) {}
  for (int i = 0; i < 3; i++) pthread_join(t[i], NULL);
  printf("all have ended\n");
  return 0;
}
