// Code on the stacks of threads, as GCC's nested functions need it. With EXECUTABLE, the program
// requests executable stacks when it is linked; otherwise a library that it loads while a thread
// runs does (newer C libraries refuse that).
#include "threads.h"

#include <dlfcn.h>
#include <libgen.h>

static int calls_code_on_stack(void) {
#if defined(__x86_64__)
  unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};  // mov $42, %eax; ret
#elif defined(__aarch64__)
  unsigned code[] = {0x52800540, 0xd65f03c0};  // mov w0, #42; ret
#endif
  unsigned char here[64];
  memcpy(here, code, sizeof code);
  __builtin___clear_cache((char*)here, (char*)here + sizeof here);
  int (*f)(void);
  void* address = here;
  memcpy(&f, &address, sizeof f);
  return f();
}

static void* calls(void* unused) {
  SAY("a thread calls code on its stack", calls_code_on_stack());
  return unused;
}

static volatile int loaded;
static void* calls_when_loaded(void* unused) {
  while (!loaded) usleep(1000);
  if (loaded > 0)
    SAY("a thread that ran before the library was loaded does", calls_code_on_stack());
  return unused;
}

static void count(int signal) { (void)signal; }

int main(int argc, char** argv) {
  struct worker w, early;
  (void)argc;
#ifdef EXECUTABLE
  (void)argv;
  (void)early;
  (void)calls_when_loaded;
  (void)count;
  start(&w, calls, NULL);
  end_of(&w);
#else
  for (int handled = 0; handled < 2; handled++) {
    fflush(stdout);
    if (peer()) {
      if (handled) signal(SIGSEGV, count);
      loaded = 0;
      start(&early, calls_when_loaded, NULL);
      await_waiting(&early);
      char path[4096];
      snprintf(path, sizeof path, "%s/libthread_code_library.so", dirname(strdup(argv[0])));
      void* library = dlopen(path, RTLD_NOW);
      printf("a library that wants stacks to be executable%s: %s\n",
             handled ? ", SIGSEGV is handled" : "", library ? "loaded" : "refused");
      loaded = library ? 1 : -1;
      end_of(&early);
      if (library) {
        start(&w, calls, NULL);
        end_of(&w);
      }
      leave();
    }
    peer_ends();
  }
#endif
}
