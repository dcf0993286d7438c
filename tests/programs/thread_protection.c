// pkeys(7): the rights to memory with a protection key are per thread, wherever the thread is
// preempted.
#include "threads.h"

#include <sys/mman.h>

static int key;
static volatile char* page;
static volatile int arrived;

struct rights {
  int own;
  struct worker w;
};

// Spins until all threads have arrived, so that it is preempted while it uses the page.
static void meet(int n) {
  __atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
  while (arrived < n) (void)*page;
}

static void* uses(void* p) {
  struct rights* r = p;
  SAY("  a new thread has its creator's", pkey_get(key));
  pkey_set(key, r->own);
  meet(4);
  for (int i = 0; i < 1000; i++) (void)*page;
  sched_yield();
  int kept = pkey_get(key) == r->own;
  if (!(r->own & PKEY_DISABLE_WRITE)) *page = 'x';
  return (void*)(intptr_t)kept;
}

int main(void) {
  key = pkey_alloc(0, PKEY_DISABLE_WRITE);
  if (key < 0) {
    puts("no protection keys: no such processor, or kernel");
    return 77;
  }
  page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  SAY("pkey_mprotect", pkey_mprotect((void*)page, 4096, PROT_READ | PROT_WRITE, key));
  SAY("main's rights", pkey_get(key));
  struct rights threads[3] = {{.own = 0}, {.own = PKEY_DISABLE_WRITE}, {.own = 0}};
  for (int i = 0; i < 3; i++) {
    start(&threads[i].w, uses, &threads[i]);
    // The threads print their lines one after the other.
    while (arrived < i + 1) sched_yield();
  }
  meet(4);
  for (int i = 0; i < 3; i++) SAY("a thread kept its own", (intptr_t)end_of(&threads[i].w));
  SAY("main kept its own", pkey_get(key) == PKEY_DISABLE_WRITE);
  int another = pkey_alloc(0, 0);
  SAY("another key", another > key);
  SAY("  may be written", pkey_get(another));
  SAY("pkey_alloc, bad flags", pkey_alloc(1, 0));
  SAY("pkey_alloc, bad rights", pkey_alloc(0, 255));
  SAY("pkey_free", pkey_free(another));
  return 0;
}
