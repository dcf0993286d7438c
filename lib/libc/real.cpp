#include "libc/real.hpp"

#include <dlfcn.h>

#include "base/sys.hpp"

// The shim's: looks behind the shim. Absent in a program that only links libtendril.so.
extern "C" __attribute__((weak)) void* tendril_shim_next_symbol(const char* name) noexcept;

namespace tendril::posix {

constinit real_calls real;

namespace {

// One that is not the C library's, and that only some module loaded for itself.
void* in_liburing(const char* name) noexcept {
  void* library = dlopen("liburing.so.2", RTLD_LAZY | RTLD_NOLOAD);
  return library ? dlsym(library, name) : nullptr;
}

}  // namespace

void* find_symbol(const char* name) noexcept {
  return tendril_shim_next_symbol ? tendril_shim_next_symbol(name) : dlsym(RTLD_DEFAULT, name);
}

void* symbol_behind(const char* name) noexcept {
  void* p = dlsym(RTLD_NEXT, name);
  __asm__ volatile("" : "+r"(p));  // no tail call: RTLD_NEXT goes by the address that dlsym returns to
  if (!p) sys::die("the program's libraries have no function ", name);
  return p;
}

void* next_lock(const char* name) noexcept {
  return tendril_shim_next_symbol ? next_symbol(name) : symbol_behind(name);
}

void look_up_real_calls() noexcept {
#define CALL(result, name, parameters, arguments) real.name.look_up();
#define ALIAS(result, name, target, parameters, arguments)
#define ODD(result, name, parameters) real.name.look_up();
#include "libc/calls.def"
#undef CALL
#undef ALIAS
#undef ODD
}

void* next_symbol(const char* name) noexcept {
  void* p = find_symbol(name);
  if (!p) p = in_liburing(name);
  if (!p) sys::die("the program's libraries have no function ", name);
  return p;
}

}  // namespace tendril::posix
