// Threads that compute on small stacks of their own (coroutines), which have no room for a signal
// frame: they take turns with others, and no memory outside the stacks is written.
#include "threads.h"

#include <sys/mman.h>
#include <ucontext.h>

#define PAGE 4096
#define STACKS 3
// Stacks of one page each, between inaccessible pages. makecontext() begins at the end of the
// memory that it gets, so there is nothing above.
static char* stack_of[STACKS];
static size_t size_of[STACKS];
static volatile long turns[STACKS];
static volatile int whole[STACKS];
static ucontext_t back[STACKS], inside[STACKS];

static void make_stacks(size_t used) {
  for (int i = 0; i < STACKS; i++) {
    char* p = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE));
    stack_of[i] = p + 2 * PAGE - used;
    size_of[i] = used;
    fill((unsigned char*)p + PAGE, PAGE - used, (size_t)i);
  }
}
// The memory below the stack belongs to another object.
static int untouched(int i) {
  const unsigned char* p = (const unsigned char*)stack_of[i] + size_of[i] - PAGE;
  for (size_t k = 0; k < PAGE - size_of[i]; k++) {
    if (p[k] != pattern(k + (size_t)i)) return 0;
  }
  return 1;
}
static void drop_stacks(void) {
  for (int i = 0; i < STACKS; i++) munmap(stack_of[i] + size_of[i] - 2 * PAGE, 3 * PAGE);
}

// Each goes on when all others have come as far. None makes a call that waits, so each has to be
// preempted.
static void computes(int i) {
  for (long step = 1; step <= 10; step++) {
    turns[i] = step;
    for (int k = 0; k < STACKS; k++) {
      while (turns[k] < step) {}
    }
  }
}
static void in_context(int i) {
  computes(i);
  swapcontext(&inside[i], &back[i]);
}
static void* runs_context(void* p) {
  int i = (int)(intptr_t)p;
  getcontext(&inside[i]);
  inside[i].uc_stack.ss_sp = stack_of[i];
  inside[i].uc_stack.ss_size = size_of[i];
  inside[i].uc_link = NULL;
  makecontext(&inside[i], (void (*)(void))in_context, 1, i);
  swapcontext(&back[i], &inside[i]);
  whole[i] = untouched(i);
  return NULL;
}

#ifdef __x86_64__
// The stack pointer is set by inline assembly, unknown to any library.
static void* sets_pointer(void* p) {
  int i = (int)(intptr_t)p;
  long argument = i;  // which the call may change
  __asm__ volatile("mov %%rsp, %%rbx\n\tmov %1, %%rsp\n\tcall *%2\n\tmov %%rbx, %%rsp"
                   : "+D"(argument)
                   : "r"(stack_of[i] + size_of[i] - 16), "r"(computes)
                   : "rbx", "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "memory", "cc");
  whole[i] = untouched(i);
  return NULL;
}
#else
static void* sets_pointer(void* p) { return runs_context(p); }
#endif

static void round_of(const char* name, void* (*run)(void*), size_t used) {
  struct worker w[STACKS];
  make_stacks(used);
  for (int i = 0; i < STACKS; i++) turns[i] = whole[i] = 0;
  for (intptr_t i = 0; i < STACKS; i++) start(&w[i], run, (void*)i);
  int ok = 0;
  for (int i = 0; i < STACKS; i++) end_of(&w[i]), ok += whole[i];
  printf("%s: %d threads took turns, %d stacks are whole\n", name, STACKS, ok);
  fflush(stdout);
  drop_stacks();
}

int main(void) {
  round_of("contexts with stacks of 4 KB", runs_context, 4096);
  round_of("contexts with stacks of 2 KB", runs_context, 2048);
  round_of("stacks of 1 KB set by hand", sets_pointer, 1024);
  return 0;
}
