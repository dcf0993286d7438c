// The C library's own functions, for calls that need not be cooperative and for helper threads.
// Each is looked up at its first call, behind the shim if there is one, so that other preloaded
// libraries stay in the chain. Without the shim, the locks are looked up behind libtendril.so,
// which defines their names itself.
#pragma once

#include <pthread.h>

#include <atomic>

#include "libc/types.hpp"

namespace tendril::posix {

// The next definition of `name`: behind the shim, if there is one. If there is no definition,
// find_symbol() returns null, and next_symbol() ends the process.
void* find_symbol(const char* name) noexcept;
void* next_symbol(const char* name) noexcept;
// The same as next_symbol(), behind this library.
void* symbol_behind(const char* name) noexcept;
// For locks: next_symbol() with the shim, symbol_behind() without it.
void* next_lock(const char* name) noexcept;

template <class F>
class real_call;
template <class R, class... A>
class real_call<R(A...)> {
 public:
  constexpr explicit real_call(const char* name,
                               void* (*find)(const char*) noexcept = next_symbol) noexcept
      : name_(name), find_(find) {}
  R operator()(A... a) noexcept {
    auto f = function_.load(std::memory_order_relaxed);
    if (!f) [[unlikely]] {
      f = reinterpret_cast<R (*)(A...)>(find_(name_));
      function_.store(f, std::memory_order_relaxed);
    }
    return f(a...);
  }
  void look_up() noexcept {
    function_.store(
        reinterpret_cast<R (*)(A...)>((find_ == next_symbol ? find_symbol : find_)(name_)),
        std::memory_order_relaxed);
  }

 private:
  const char* name_;
  void* (*find_)(const char*) noexcept;
  std::atomic<R (*)(A...)> function_{nullptr};
};

struct real_calls {
#define CALL(result, name, parameters, arguments) real_call<result parameters> name{#name};
#define LOCK(result, name, parameters, arguments) \
  real_call<result parameters> name{#name, next_lock};
#define LOCK_ALIAS(result, name, target, parameters, arguments)
#define ALIAS(result, name, target, parameters, arguments)
#define ODD(result, name, parameters) real_call<result parameters> name{#name};
#include "libc/calls.def"
#undef CALL
#undef ALIAS
#undef ODD
};

extern constinit real_calls real;

// Looks up all of them now. A thread that did so later might deadlock: it would wait for the
// loader's lock, whose holder (running a constructor or destructor of a library) may be waiting for
// that thread.
void look_up_real_calls() noexcept;

}  // namespace tendril::posix
