#include "real.hpp"

#include <dlfcn.h>

#include "../sys.hpp"

// The shim's: looks behind the shim. Absent in a program that only links libtendril.so.
extern "C" __attribute__((weak)) void* tendril_shim_next_symbol(const char* name) noexcept;

namespace tendril::posix {

constinit real_calls real;

void* next_symbol(const char* name) noexcept {
  void* p = tendril_shim_next_symbol ? tendril_shim_next_symbol(name) : dlsym(RTLD_DEFAULT, name);
  if (!p) sys::die("the C library has no function ", name);
  return p;
}

}  // namespace tendril::posix
