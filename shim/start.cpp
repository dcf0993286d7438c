// What happens when the shim is loaded, and how lib/ finds what stands behind it.
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <tendril/detail/core.hpp>
#include <tendril/posix.hpp>

// The next definition of a name in the order of loading: the C library's, or that of another preloaded library.
extern "C" __attribute__((visibility("default"))) void* tendril_shim_next_symbol(const char* name) noexcept {
  void* p = dlsym(RTLD_NEXT, name);
  __asm__ volatile("" : "+r"(p));  // no tail call: RTLD_NEXT goes by the address that dlsym returns to
  return p;
}

namespace {

__attribute__((constructor)) void start() {
  const char* cooperate = getenv("TENDRIL_COOPERATE");
  if (cooperate && strcmp(cooperate, "always") == 0) {
    tendril::core::fiber_current();  // the main thread gets its hub
    tendril::posix::cooperate_always();
  }
}

}  // namespace
