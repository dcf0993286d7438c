// A thread recurses beyond its stack. The program does not know Tendril.
#define _GNU_SOURCE
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int recurse(volatile char* above) {
  volatile char room[512];
  room[0] = above ? *above : 0;
  return recurse(room) + room[0];
}
static void* overflows(void* name) {
  if (name) pthread_setname_np(pthread_self(), name);
  recurse(NULL);
  return NULL;
}
static pthread_attr_t small;
static void* begins_another(void* unused) {
  pthread_t t;
  pthread_setname_np(pthread_self(), "creator");
  pthread_create(&t, &small, overflows, NULL);
  pthread_join(t, NULL);
  return unused;
}
static void* returns(void* unused) { return unused; }
static void* waits(void* unused) {
  sleep(1000);
  return unused;
}

int main(int argc, char** argv) {
  pthread_t t;
  const struct rlimit no_core = {0, 0};
  const char* how = argc > 1 ? argv[1] : "";
  setrlimit(RLIMIT_CORE, &no_core);
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 128 * 1024);
  if (strcmp(how, "small") == 0) {
    pthread_create(&t, &small, overflows, "worker");
  } else if (strcmp(how, "default") == 0) {
    pthread_create(&t, NULL, overflows, NULL);
  } else if (strcmp(how, "inherited") == 0) {
    pthread_create(&t, &small, begins_another, NULL);
  } else {
    // On the stack of a thread that has ended, while another one waits.
    pthread_create(&t, &small, returns, NULL);
    pthread_join(t, NULL);
    pthread_create(&t, NULL, waits, NULL);
    pthread_create(&t, &small, overflows, "worker");
  }
  pthread_join(t, NULL);
}
