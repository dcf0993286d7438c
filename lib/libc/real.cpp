#include "libc/real.hpp"

#include "base/symbols.hpp"
#include "base/sys.hpp"

// Defined by the shim. Absent in a program that only links libtendril.so.
extern "C" __attribute__((weak)) const char tendril_shim;

namespace tendril::posix {

constinit real_calls real;

void* find_symbol(const char* name) noexcept { return core::find_symbol(name, &tendril_shim); }

void* symbol_behind(const char* name) noexcept {
  void* p = core::find_symbol(name, &real);
  if (!p) sys::die("the program's libraries have no function ", name);
  return p;
}

void* next_lock(const char* name) noexcept {
  return &tendril_shim ? next_symbol(name) : symbol_behind(name);
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
  // The name may be in a library that a module loaded later.
  if (!p) p = core::find_symbol_in("liburing.so.2", name);
  if (!p) sys::die("the program's libraries have no function ", name);
  return p;
}

}  // namespace tendril::posix
