// A malloc that makes calls that the shim interposes, as jemalloc does, and a constructor that
// makes them before all others. It is preloaded after the shim.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static char arena[64 << 20] __attribute__((aligned(16)));
static size_t used;
static __thread int inside __attribute__((tls_model("initial-exec")));
static volatile long calls;

static void make_calls(void) {
  if (inside) return;
  inside = 1;
  int saved = errno;
  char b[16];
  int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (fd < 0 || read(fd, b, sizeof b) <= 0 || close(fd)) _exit(71);
  int p[2];
  struct pollfd f;
  if (pipe(p) || write(p[1], "x", 1) != 1) _exit(72);
  f.fd = p[0];
  f.events = POLLIN;
  if (poll(&f, 1, -1) != 1 || read(p[0], b, 1) != 1) _exit(73);
  close(p[0]);
  close(p[1]);
  struct timespec none = {0, 1};
  struct sigaction a;
  if ((nanosleep(&none, NULL) && errno != EINTR) || sigaction(SIGUSR1, NULL, &a)) _exit(74);
  errno = saved;
  calls++;
  inside = 0;
}

static void* take(size_t n, size_t alignment) {
  make_calls();
  size_t at =
      __atomic_fetch_add(&used, ((n + 15) & ~(size_t)15) + alignment + 16, __ATOMIC_RELAXED);
  if (at + n + alignment + 16 > sizeof arena) return NULL;
  uintptr_t p = ((uintptr_t)arena + at + 16 + alignment - 1) & ~(uintptr_t)(alignment - 1);
  ((size_t*)p)[-1] = n;
  return (void*)p;
}

void* malloc(size_t n) { return take(n, 16); }
void free(void* p) { (void)p; }
void* calloc(size_t a, size_t b) { return take(a * b, 16); }  // never used before, so it is zero
void* realloc(void* p, size_t n) {
  void* q = take(n, 16);
  if (p && q) memcpy(q, p, ((size_t*)p)[-1] < n ? ((size_t*)p)[-1] : n);
  return q;
}
void* memalign(size_t a, size_t n) { return take(n, a < 16 ? 16 : a); }
void* aligned_alloc(size_t a, size_t n) { return memalign(a, n); }
int posix_memalign(void** p, size_t a, size_t n) { return (*p = memalign(a, n)) ? 0 : 12; }

__attribute__((constructor(101))) static void first(void) { make_calls(); }
__attribute__((destructor)) static void last(void) {
  make_calls();
  // The program may have closed standard error.
  if (calls >= 2 && write(2, "calls were made\n", 16) != 16) return;
}
