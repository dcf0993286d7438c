// The locks' libc names, for a program that links libtendril without the shim: the program and its
// libraries find them here before the C library's, so that fibers own locks, and waiting for a lock
// lets other fibers run.
//
// These names are in charge only if the program's own calls reach them. They only forward to the
// next definition of each name if the shim is in front, which has the same names; if libtendril
// comes after the C library (a plug-in was linked with it); and with a sanitizer, which must see
// the C library's locks.
#include <stdarg.h>

#include <tendril/posix.hpp>
#include <tendril/pthread.hpp>

#include "base/symbols.hpp"
#include "posix/common/cooperate.hpp"
#include "posix/common/this_thread.hpp"
#include "posix/locks/static_guard.hpp"

extern "C" __attribute__((weak)) const char tendril_shim;

namespace tendril::posix {

#if !defined(TENDRIL_ASAN) && !defined(TENDRIL_TSAN)

namespace {

constinit std::atomic<bool> in_charge{false};
bool forward() noexcept { return !in_charge.load(std::memory_order_relaxed); }

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))

#define CALL(result, name, parameters, arguments)
#define ALIAS(result, name, target, parameters, arguments)
#define ODD(result, name, parameters)

namespace {

// The next definitions, looked up after this library.
struct calls_behind {
#define LOCK(result, name, parameters, arguments) \
  real_call<result parameters> name{#name, symbol_behind};
#define LOCK_ALIAS(result, name, target, parameters, arguments)
#include "libc/calls.def"
  real_call<long(long, long, long, long, long, long, long)> syscall{"syscall", symbol_behind};
};
constinit calls_behind behind;

}  // namespace

#define LOCK(result, name, parameters, arguments)       \
  EXPORT result locks_##name parameters __asm__(#name); \
  EXPORT result locks_##name parameters {               \
    if (forward()) [[unlikely]]                         \
      return behind.name arguments;                     \
    return tendril::posix::name arguments;              \
  }
#define LOCK_ALIAS(result, name, target, parameters, arguments) \
  EXPORT result locks_##name parameters __asm__(#name);         \
  EXPORT result locks_##name parameters { return locks_##target arguments; }
#include "libc/calls.def"

// std::atomic<T>::wait, and what the C++ library builds on it, wait by futexes.
EXPORT long locks_syscall(long number, ...) __asm__("syscall");
EXPORT long locks_syscall(long number, ...) {
  va_list rest;
  va_start(rest, number);
  long a[6];
  for (long& each : a) each = va_arg(rest, long);
  va_end(rest);
  if (forward() || number != SYS_futex)
    return behind.syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  return tendril::posix::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

EXPORT int locks_guard_acquire(static_guard* g) __asm__("__cxa_guard_acquire");
EXPORT int locks_guard_acquire(static_guard* g) { return cxa_guard_acquire(g); }
EXPORT void locks_guard_release(static_guard* g) __asm__("__cxa_guard_release");
EXPORT void locks_guard_release(static_guard* g) { cxa_guard_release(g); }
EXPORT void locks_guard_abort(static_guard* g) __asm__("__cxa_guard_abort");
EXPORT void locks_guard_abort(static_guard* g) { cxa_guard_abort(g); }

namespace {

// Runs before all other constructors of this library and of libraries linked with it.
__attribute__((constructor(101))) void take_charge() noexcept {
  if (&tendril_shim || core::tls::watcher_sees_threads()) return;
  void* found = core::find_symbol("pthread_mutex_lock");
  bool mine = found == reinterpret_cast<void*>(&locks_pthread_mutex_lock);
  if (!mine) return;
  locks_are_ours = true;
  in_charge = true;
}

}  // namespace

#endif

}  // namespace tendril::posix
