// The C library's own functions, as they are without us: for calls that need not be cooperative,
// and for helper threads. Each is looked up when it is first called: behind the shim, if there is
// one, so that other preloaded libraries keep their turn. Locks, whose names libtendril.so has
// itself, are looked up behind that if there is no shim.
#pragma once

#include <pthread.h>

#include <atomic>

#include "libc/types.hpp"

namespace tendril::posix {

// The address of the next definition of `name`: behind the shim, if there is one. The first: null,
// the second: the process ends, if there is none.
void* find_symbol(const char* name) noexcept;
void* next_symbol(const char* name) noexcept;
// The same behind this library.
void* symbol_behind(const char* name) noexcept;
// Of a lock: the first, and where there is no shim the second.
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

// Looks all of them up now. A thread that did so later would wait for one that holds the loader's
// lock, which may be waiting for it (a constructor or destructor of a library).
void look_up_real_calls() noexcept;

}  // namespace tendril::posix
