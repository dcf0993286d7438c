// What runs when the shim is loaded, and the marks by which lib/ finds the functions behind it.
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <tendril/detail/core.hpp>
#include <tendril/posix.hpp>
#include <tendril/pthread.hpp>

// Tells lib/ that there is a shim, and where it is: the next definition of a name is the C
// library's, or that of another preloaded library.
extern "C" __attribute__((visibility("default"))) const char tendril_shim;
const char tendril_shim = 0;

// For `tendril doctor`: why threads cannot become fibers with this C library; null if they can.
extern "C" __attribute__((visibility("default"))) const char* tendril_shim_obstacle() noexcept {
  return tendril::posix::threads_obstacle();
}

// For `tendril doctor`: why io_uring cannot receive here; null if it can.
extern "C" __attribute__((visibility("default"))) const char*
tendril_shim_io_uring_obstacle() noexcept {
  return tendril::posix::io_uring_obstacle();
}

namespace {

using main_function = int (*)(int, char**, char**);
main_function program_main;

// The value of a variable in the environment that constructors get; null if it is not set.
const char* value_of(const char* name, char** environment) {
  std::size_t n = strlen(name);
  for (char** e = environment; e && *e; e++) {
    if (strncmp(*e, name, n) == 0 && (*e)[n] == '=') return *e + n + 1;
  }
  return nullptr;
}

// Runs before all other constructors (-z initfirst), including the C library's, so getenv() does
// not work yet. It must be first, so that no lock is taken by the C library and released by
// Tendril.
__attribute__((constructor)) void start(int, char**, char** environment) {
  const char* threads = value_of("TENDRIL_THREADS", environment);
  if (!threads || strcmp(threads, "kernel") != 0) tendril::posix::threads_become_fibers();
}

void cooperate_if_asked() {
  const char* cooperate = getenv("TENDRIL_COOPERATE");
  if (cooperate && strcmp(cooperate, "always") == 0) {
    tendril::core::fiber_current();  // makes the main thread's hub
    tendril::posix::cooperate_always();
  }
}

int wrapped_main(int argc, char** argv, char** envp) {
  cooperate_if_asked();
  tendril::posix::run_main(program_main, argc, argv, envp);
}

}  // namespace

// Calls the program's main from Tendril's own frame, in which pthread_exit() can end the main
// thread.
extern "C" __attribute__((visibility("default"))) int __libc_start_main(
    main_function main, int argc, char** argv, void (*init)(), void (*fini)(),
    void (*loader_fini)(), void* stack_end) {
  program_main = main;
  using start_function =
      int (*)(main_function, int, char**, void (*)(), void (*)(), void (*)(), void*);
  auto next = reinterpret_cast<start_function>(dlsym(RTLD_NEXT, "__libc_start_main"));
  if (!next) abort();
  return next(wrapped_main, argc, argv, init, fini, loader_fini, stack_end);
}
