// A library that thread_dlopen loads, with thread-local variables of the two kinds, and a key.
#include <pthread.h>
#include <string.h>

#ifdef STATIC_TLS
#define MODEL __attribute__((tls_model("initial-exec")))
#else
#define MODEL __attribute__((tls_model("global-dynamic")))
#endif

static __thread int initialised MODEL = 41;
static __thread char zeroed[200] MODEL;
static __thread int aligned MODEL __attribute__((aligned(64))) = 3;
int constructed, destroyed_keys;
static pthread_key_t key;

__attribute__((constructor)) static void construct(void) { constructed = ++initialised; }

// The number of calls by the running thread; -1 if its variables are not as expected.
int count_calls(void) {
  if ((unsigned long)&aligned % 64 || aligned < 3) return -1;
  for (unsigned i = 0; i < sizeof zeroed; i++) {
    if (zeroed[i] != (char)(aligned - 3)) return -1;
  }
  aligned++;
  memset(zeroed, aligned - 3, sizeof zeroed);
  return ++initialised;
}
int* variable(void) { return &initialised; }

static void destroy(void* p) {
  (void)p;
  destroyed_keys++;
}
void use_key(void) {
  if (!key) pthread_key_create(&key, destroy);
  pthread_setspecific(key, &key);
}
void drop_key(void) { pthread_key_delete(key); }
