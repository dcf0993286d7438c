// malloc(3) and related functions with threads: blocks that one thread allocates and another frees,
// that outlive their thread, that grow, are aligned, and are allocated in a key's destructor; and
// forks meanwhile. Run with several allocators.
#include "threads.h"

#include <malloc.h>
#include <netdb.h>
#include <semaphore.h>

enum { makers = 4, freers = 3, blocks = 3000, slots = 64 };

struct block {
  size_t size;
  unsigned char fill, bytes[];
};
static struct block* make(size_t size, unsigned char fill) {
  struct block* b = malloc(sizeof *b + size);
  if (!b) exit(94);
  b->size = size;
  b->fill = fill;
  memset(b->bytes, fill, size);
  return b;
}
static long check_and_free(struct block* b) {
  long wrong = 0;
  for (size_t i = 0; i < b->size; i++) wrong += b->bytes[i] != b->fill;
  free(b);
  return wrong;
}
static size_t some_size(unsigned* seed) {
  *seed = *seed * 1664525u + 1013904223u;
  unsigned kind = *seed >> 28, n = *seed >> 8;
  return kind < 12 ? n % 300 : kind < 15 ? n % 9000 : n % 300000;
}

// Blocks passed from thread to thread.
static struct block* slot[slots];
static sem_t room, full;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int in, out;
static void* makes(void* p) {
  unsigned seed = (unsigned)(intptr_t)p;
  for (int i = 0; i < blocks; i++) {
    struct block* b = make(some_size(&seed), (unsigned char)i);
    while (sem_wait(&room)) {}
    pthread_mutex_lock(&lock);
    slot[in++ % slots] = b;
    pthread_mutex_unlock(&lock);
    sem_post(&full);
    if (i % 500 == 0) sched_yield();
  }
  return NULL;
}
static void* frees(void* p) {
  long wrong = 0;
  for (int i = 0; i < blocks * makers / freers; i++) {
    while (sem_wait(&full)) {}
    pthread_mutex_lock(&lock);
    struct block* b = slot[out++ % slots];
    pthread_mutex_unlock(&lock);
    sem_post(&room);
    wrong += check_and_free(b);
  }
  (void)p;
  return (void*)wrong;
}

static pthread_key_t key;
static long wrong_at_end;
static void frees_at_end(void* p) {
  void* more = malloc(100);
  wrong_at_end += check_and_free(p);
  free(more);
}
static void* leaves(void* p) {
  unsigned seed = (unsigned)(intptr_t)p;
  pthread_setspecific(key, make(some_size(&seed), 7));
  return make(some_size(&seed), (unsigned char)(intptr_t)p);
}
static void* grows(void* p) {
  long wrong = 0;
  for (int round = 0; round < 20; round++) {
    unsigned char* a = NULL;
    for (size_t n = 1; n < 100000; n *= 3) {
      a = realloc(a, n);
      a[n - 1] = (unsigned char)n;
      wrong += n > 1 && a[n / 3 - 1] != (unsigned char)(n / 3);
      if (round % 8 == 0) sched_yield();
    }
    free(a);
    unsigned char* z = calloc(50, 70);
    for (int i = 0; i < 3500; i++) wrong += z[i] != 0;
    memset(z, 1, 3500);
    free(z);
    for (size_t align = 16; align <= 8192; align *= 8) {
      void *m = aligned_alloc(align, align * 2), *n = NULL;
      wrong += (uintptr_t)m % align != 0;
      wrong += posix_memalign(&n, align, 100) || (uintptr_t)n % align;
      wrong += malloc_usable_size(n) < 100;
      free(m), free(n);
    }
  }
  (void)p;
  return (void*)wrong;
}
static void* forks(void* p) {
  long wrong = 0;
  for (int i = 0; i < 5; i++) {
    struct block* b = make(5000, 9);
    pid_t child = fork();
    if (child == 0) {
      long bad = check_and_free(b);
      bad += (intptr_t)grows(NULL);
      struct worker w[2];
      for (int k = 0; k < 2; k++) start(&w[k], grows, NULL);
      for (int k = 0; k < 2; k++) bad += (intptr_t)end_of(&w[k]);
      _exit(bad != 0);
    }
    int status;
    while (waitpid(child, &status, 0) < 0) {}
    wrong += status != 0;
    wrong += check_and_free(b);
  }
  (void)p;
  return (void*)wrong;
}

// --- threads end, and names are looked up, while others are inside malloc() and free() ---

static volatile int over;
static void* allocates(void* p) {
  void* kept[512];
  for (unsigned seed = 1; !over;) {
    for (int i = 0; i < 512; i++) kept[i] = malloc(200 + some_size(&seed) % 1024);
    for (int i = 0; i < 512; i++) free(kept[i]);
  }
  return p;
}
static void* ends(void* p) { return p; }
static void* looks_up(void* p) {
  struct addrinfo* found;
  if (getaddrinfo("localhost", "80", NULL, &found) == 0) freeaddrinfo(found);
  return p;
}
static void beside(void* (*run)(void*)) {
  struct worker busy[4], w[20];
  over = 0;
  for (int i = 0; i < 4; i++) start(&busy[i], allocates, NULL);
  for (int n = 0; n < 10; n++) {
    for (int i = 0; i < 20; i++) start(&w[i], run, NULL);
    for (int i = 0; i < 20; i++) end_of(&w[i]);
  }
  over = 1;
  for (int i = 0; i < 4; i++) end_of(&busy[i]);
}

int main(void) {
  mallopt(M_ARENA_MAX, 1);  // one lock for all
  struct worker m[makers], f[freers], w[4];
  long wrong = 0;
  sem_init(&room, 0, slots);
  sem_init(&full, 0, 0);
  pthread_key_create(&key, frees_at_end);
  for (int i = 0; i < makers; i++) start(&m[i], makes, (void*)(intptr_t)(i + 1));
  for (int i = 0; i < freers; i++) start(&f[i], frees, NULL);
  for (int i = 0; i < makers; i++) end_of(&m[i]);
  for (int i = 0; i < freers; i++) wrong += (intptr_t)end_of(&f[i]);
  SAY("made by one, freed by another, wrong bytes", wrong);
  wrong = 0;
  struct block* left[200];
  for (int i = 0; i < 200; i++) {
    start(&w[0], leaves, (void*)(intptr_t)i);
    left[i] = end_of(&w[0]);
  }
  for (int i = 0; i < 200; i++) wrong += check_and_free(left[i]);
  SAY("what a thread leaves behind", wrong);
  SAY("what a key's destructor frees", wrong_at_end);
  wrong = 0;
  for (int i = 0; i < 4; i++) start(&w[i], grows, NULL);
  for (int i = 0; i < 4; i++) wrong += (intptr_t)end_of(&w[i]);
  SAY("grown, zeroed, aligned", wrong);
  for (int i = 0; i < 3; i++) start(&w[i], grows, NULL);
  start(&w[3], forks, NULL);
  wrong = 0;
  for (int i = 0; i < 4; i++) wrong += (intptr_t)end_of(&w[i]);
  SAY("with forks", wrong);
  beside(ends);
  puts("threads end beside others that allocate");
  beside(looks_up);
  puts("names are looked up beside them");
  return 0;
}
