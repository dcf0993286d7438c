// <threads.h>: thrd_*, mtx_*, cnd_*, tss_*, call_once.
#include "threads.h"

#include <sys/resource.h>
#include <threads.h>

static const char* name_of(int r) {
  switch (r) {
    case thrd_success:
      return "success";
    case thrd_busy:
      return "busy";
    case thrd_error:
      return "error";
    case thrd_nomem:
      return "nomem";
    case thrd_timedout:
      return "timedout";
    default:
      return "?";
  }
}
#define C11(sentence, call)                    \
  do {                                         \
    int r_ = (call);                           \
    printf("%s: %s\n", sentence, name_of(r_)); \
  } while (0)

static mtx_t mutex;
static cnd_t condition;
static int ready, once_calls;
static _Atomic int destroyed;
static tss_t key;
static once_flag flag = ONCE_FLAG_INIT;
static thrd_t self_seen;

static int returns(void* p) {
  self_seen = thrd_current();
  return (int)(intptr_t)p;
}
static int exits(void* p) { thrd_exit((int)(intptr_t)p); }
static int tries(void* unused) {
  (void)unused;
  return mtx_trylock(&mutex);
}
static int tries_timed(void* unused) {
  (void)unused;
  struct timespec t = in_ms(CLOCK_REALTIME, 5);
  return mtx_timedlock(&mutex, &t);
}
static int waits(void* unused) {
  (void)unused;
  mtx_lock(&mutex);
  while (!ready) cnd_wait(&condition, &mutex);
  ready--;
  mtx_unlock(&mutex);
  return 7;
}
static void counts_destroyed(void* p) { destroyed += (int)(intptr_t)p; }
static int keeps(void* p) {
  tss_set(key, p);
  thrd_yield();
  return (int)(intptr_t)tss_get(key);
}
static void once_routine(void) {
  struct timespec t = {0, 2000000};
  thrd_sleep(&t, NULL);
  once_calls++;
}
static int once(void* unused) {
  (void)unused;
  call_once(&flag, once_routine);
  return once_calls;
}
static int detached(void* unused) {
  (void)unused;
  mtx_lock(&mutex);
  ready++;
  cnd_broadcast(&condition);
  mtx_unlock(&mutex);
  return 0;
}

static void without_room(void) {
  thrd_t t;
  struct rlimit before;
  MUST(getrlimit(RLIMIT_AS, &before));
  struct rlimit none = {1, before.rlim_max};
  // A size that no stack has that was kept from an ended thread.
  pthread_attr_t size;
  pthread_attr_init(&size);
  pthread_attr_setstacksize(&size, 9 << 20);
  pthread_setattr_default_np(&size);
  MUST(setrlimit(RLIMIT_AS, &none));
  C11("create without room for a stack", thrd_create(&t, returns, NULL));
  MUST(setrlimit(RLIMIT_AS, &before));
}

int main(void) {
  thrd_t t[4];
  int r;
  C11("create", thrd_create(&t[0], returns, (void*)-3));
  C11("join", thrd_join(t[0], &r));
  printf("its result: %d; its own number: %d\n", r, thrd_equal(t[0], self_seen) != 0);
  printf("equal to another: %d\n", thrd_equal(t[0], thrd_current()) != 0);
  thrd_create(&t[0], exits, (void*)5);
  C11("join of a thread that called thrd_exit", thrd_join(t[0], &r));
  printf("its result: %d\n", r);
  thrd_create(&t[0], exits, (void*)5);
  C11("join, the result unwanted", thrd_join(t[0], NULL));

  int kinds[] = {mtx_plain, mtx_timed, mtx_recursive, mtx_timed | mtx_recursive};
  for (int i = 0; i < 4; i++) {
    printf("kind %d\n", kinds[i]);
    C11("init", mtx_init(&mutex, kinds[i]));
    C11("lock", mtx_lock(&mutex));
    C11("trylock", mtx_trylock(&mutex));
    if (kinds[i] & mtx_recursive) C11("lock again", mtx_lock(&mutex));
    thrd_create(&t[0], tries, NULL);
    thrd_join(t[0], &r);
    printf("trylock elsewhere: %s\n", name_of(r));
    thrd_create(&t[0], tries_timed, NULL);
    thrd_join(t[0], &r);
    printf("timedlock elsewhere: %s\n", name_of(r));
    if (kinds[i] & mtx_recursive) {
      C11("unlock", mtx_unlock(&mutex));
      C11("unlock", mtx_unlock(&mutex));
    }
    C11("unlock", mtx_unlock(&mutex));
    if (kinds[i] & mtx_recursive) C11("unlock once too often", mtx_unlock(&mutex));
    mtx_destroy(&mutex);
  }
  C11("init of an unknown kind", mtx_init(&mutex, 77));

  mtx_init(&mutex, mtx_plain);
  C11("cnd_init", cnd_init(&condition));
  C11("cnd_signal without waiters", cnd_signal(&condition));
  mtx_lock(&mutex);
  struct timespec soon = in_ms(CLOCK_REALTIME, 5), bad = {0, 1000000000};
  C11("cnd_timedwait", cnd_timedwait(&condition, &mutex, &soon));
  C11("cnd_timedwait with too many nanoseconds", cnd_timedwait(&condition, &mutex, &bad));
  mtx_unlock(&mutex);
  for (int i = 0; i < 3; i++) thrd_create(&t[i], waits, NULL);
  for (int i = 0; i < 3; i++) {
    thrd_create(&t[3], detached, NULL);
    C11("detach", thrd_detach(t[3]));
  }
  for (int i = 0; i < 3; i++) {
    thrd_join(t[i], &r);
    printf("a waiter: %d\n", r);
  }
  cnd_destroy(&condition);

  C11("tss_create", tss_create(&key, counts_destroyed));
  tss_set(key, (void*)100);
  for (int i = 0; i < 3; i++) thrd_create(&t[i], keeps, (void*)(intptr_t)(i + 1));
  for (int i = 0; i < 3; i++) {
    thrd_join(t[i], &r);
    printf("kept: %d\n", r);
  }
  printf("destroyed: %d; kept here: %d\n", destroyed, (int)(intptr_t)tss_get(key));
  tss_delete(key);

  for (int i = 0; i < 3; i++) thrd_create(&t[i], once, NULL);
  for (int i = 0; i < 3; i++) {
    thrd_join(t[i], &r);
    printf("called once: %d\n", r);
  }

  if (!getenv("SANITIZED")) without_room();
  fflush(stdout);
  return 0;
}
