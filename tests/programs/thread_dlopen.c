// dlopen(3) and dlclose(3) of libraries with thread-local variables while threads exist: each
// thread, old or new, has its own variables, initialised from the library's image; also in threads
// on the storage of an ended one, and when a library is loaded again. dlerror(3) is per thread.
#include "threads.h"

#include <dlfcn.h>
#include <link.h>
#include <semaphore.h>

struct plugin {
  void* handle;
  int (*count_calls)(void);
  int* (*variable)(void);
  void (*use_key)(void);
  void (*drop_key)(void);
  int *constructed, *destroyed_keys;
};

static char directory[4000];

static struct plugin load(const char* name, int flags) {
  struct plugin p;
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  p.handle = dlopen(path, flags);
  if (!p.handle) {
    printf("%s\n", dlerror());
    exit(95);
  }
  *(void**)&p.count_calls = dlsym(p.handle, "count_calls");
  *(void**)&p.variable = dlsym(p.handle, "variable");
  *(void**)&p.use_key = dlsym(p.handle, "use_key");
  *(void**)&p.drop_key = dlsym(p.handle, "drop_key");
  p.constructed = dlsym(p.handle, "constructed");
  p.destroyed_keys = dlsym(p.handle, "destroyed_keys");
  return p;
}

static struct plugin here;

static void* calls(void* times) {
  int last = 0;
  for (int i = 0; i < (int)(intptr_t)times; i++) {
    last = here.count_calls();
    if (i % 2) sched_yield();
  }
  return (void*)(intptr_t)last;
}

// An old thread, which exists while libraries are loaded and unloaded.
struct old {
  struct worker w;
  sem_t go, done;
  int times;
  long last;
};
static void* old_thread(void* p) {
  struct old* o = p;
  for (;;) {
    while (sem_wait(&o->go)) {}
    if (!o->times) return NULL;
    o->last = (long)(intptr_t)calls((void*)(intptr_t)o->times);
    sem_post(&o->done);
  }
}
static long ask(struct old* o, int times) {
  o->times = times;
  sem_post(&o->go);
  while (sem_wait(&o->done)) {}
  return o->last;
}
static void* uses_key(void* p) {
  here.use_key();
  return p;
}
static void* loads(void* name) {
  struct plugin p = load(name, RTLD_NOW);
  int first = p.count_calls();
  dlclose(p.handle);
  return (void*)(intptr_t)first;
}
static int counted(struct dl_phdr_info* info, size_t size, void* n) {
  (void)size;
  if (strstr(info->dlpi_name, "thread_plugin")) ++*(int*)n;
  return 0;
}

static void library(const char* name) {
  enum { olds = 3, news = 4 };
  struct old o[olds];
  struct worker w[news];
  printf("-- %s\n", strstr(name, "static") ? "in the static part" : "in dynamic blocks");
  for (int i = 0; i < olds; i++) {
    sem_init(&o[i].go, 0, 0);
    sem_init(&o[i].done, 0, 0);
    start(&o[i].w, old_thread, &o[i]);
    await_waiting(&o[i].w);
  }
  for (int round = 0; round < 3; round++) {
    here = load(name, round == 1 ? RTLD_LAZY | RTLD_GLOBAL : RTLD_NOW);
    SAY("its constructor has run in main", *here.constructed);
    SAY("main's first call", here.count_calls());
    for (int i = 0; i < olds; i++) SAY("an old thread", ask(&o[i], i + 1));
    for (int i = 0; i < news; i++) start(&w[i], calls, (void*)(intptr_t)(i + 1));
    for (int i = 0; i < news; i++) SAY("a new thread", (intptr_t)end_of(&w[i]));
    int right = 0;
    for (int i = 0; i < 50; i++) {
      start(&w[0], calls, (void*)3);
      right += (intptr_t)end_of(&w[0]) == 44;
    }
    SAY("fifty, one after another", right);
    start(&w[0], calls, (void*)1);
    end_of(&w[0]);
    SAY("an old thread goes on", ask(&o[1], 1));
    start(&w[0], uses_key, NULL);
    end_of(&w[0]);
    SAY("its key's destructor", *here.destroyed_keys);
    here.drop_key();
    dlclose(here.handle);
    int n = 0;
    dl_iterate_phdr(counted, &n);
    printf("%d of it left\n", n);
    if (n) break;  // it cannot be unloaded, so there is no next round
  }
  for (int i = 0; i < olds; i++) {
    o[i].times = 0;
    sem_post(&o[i].go);
    end_of(&o[i].w);
  }
}

static void* fails(void* name) {
  char* before = dlerror();
  void* h = dlopen(name, RTLD_NOW);
  sched_yield();
  char* said = dlerror();
  return (void*)(intptr_t)(!before && !h && said && strstr(said, name) && !dlerror());
}
static void* leaves_error(void* name) {
  dlopen(name, RTLD_NOW);
  return NULL;
}

int main(int argc, char** argv) {
  struct worker w[4];
  // The libraries are next to the program.
  snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(argv[0], '/') - argv[0]), argv[0]);
  (void)argc;
  library("libthread_plugin_dynamic.so");
  library("libthread_plugin_static.so");
  printf("-- in threads\n");
  for (int i = 0; i < 4; i++) start(&w[i], loads, "libthread_plugin_dynamic.so");
  // The first thread loads the library, whose constructor counts.
  long sum = 0;
  for (int i = 0; i < 4; i++) {
    long first = (intptr_t)end_of(&w[i]);
    sum += first == 42 || first == 43;
  }
  SAY("four load it", sum);
  sum = 0;
  char names[4][32];
  for (int i = 0; i < 4; i++) {
    snprintf(names[i], sizeof names[i], "/nonexistent/lib-%d.so", i);
    start(&w[i], fails, names[i]);
  }
  for (int i = 0; i < 4; i++) sum += (intptr_t)end_of(&w[i]);
  SAY("four fail, each with its own dlerror", sum);
  start(&w[0], leaves_error, "/nonexistent/lib.so");
  end_of(&w[0]);
  start(&w[0], fails, names[0]);
  SAY("the next thread does not find the error of an ended thread", (intptr_t)end_of(&w[0]));
  SAY("main neither", dlerror() == NULL);
  return 0;
}
