// How typed values and exceptions travel between fibers: the throwing half of lib/fiber.cpp. Not for programs.
#pragma once

#include <cxxabi.h>

#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

#include "../error.hpp"
#include "core.hpp"

namespace tendril::detail {

// A value on its way; for void, nothing.
template <class T>
struct slot {
  template <class... V>
    requires std::constructible_from<T, V...>
  explicit slot(V&&... v) : value(std::forward<V>(v)...) {}
  T value;
};
template <>
struct slot<void> {};

// The address that stands for a family. (Not const: a linker may fold equal constants.)
template <class T>
inline char family_tag = 0;
template <class T>
const void* family() noexcept {
  return &family_tag<T>;
}

// Whether leaving a fiber by it is no error.
inline bool is_exit(const std::exception_ptr& e) noexcept {
  try {
    std::rethrow_exception(e);
  } catch (const fiber_exit&) {
    return true;
  } catch (...) {
    return false;
  }
}

// Calls settle() when what a message brought has been moved out of it, or could not be.
struct settle_after {
  settle_after() = default;
  settle_after(const settle_after&) = delete;
  ~settle_after() { core::settle(); }
};

// Switches to f, or to its first living ancestor. Returns the message that comes back.
inline core::message* exchange(core::fiber* f, core::message& m, const void* family) {
  core::fiber* self = core::fiber_current();
  if (!f) throw fiber_error("no fiber");
  if (!core::fiber_on_this_thread(f)) throw fiber_error("cannot switch to a fiber of another kernel thread");
  f = core::fiber_living(f);
  if (f == self) return &m;
  switch (core::fiber_state(f)) {
    case core::fiber_status::parked:
    case core::fiber_status::ready:
      throw fiber_error("cannot switch to a fiber that waits in the hub");
    default:
      break;
  }
  // One that waits for nothing in particular unwinds another fiber, and lets go of whatever arrives.
  const void* wants = core::fiber_awaits(f);
  if (!m.error && wants && wants != family) throw fiber_error("the fiber waits for a value of another family");
  core::message* got = core::fiber_switch(f, &m, family);
  if (!got) throw std::bad_alloc();
  return got;
}

// Reads a message that has arrived; what it brings is moved out before its sender may go away.
template <class T>
T receive(core::message* m) {
  std::exception_ptr e;
  if (auto* instead = static_cast<std::exception_ptr*>(std::exchange(m->instead, nullptr))) {
    e = std::move(*instead);
    delete instead;
  } else if (m->error) e = std::move(*static_cast<std::exception_ptr*>(m->error));
  else if (m->exit) e = std::make_exception_ptr(fiber_exit{});
  else if (m->family != family<T>()) e = std::make_exception_ptr(fiber_error("a value of another family arrived"));
  if (e) {
    core::settle();
    std::rethrow_exception(std::move(e));
  }
  settle_after moved;
  if constexpr (!std::is_void_v<T>) return T(std::move(static_cast<slot<T>*>(m->value)->value));
}

// What an explicit fiber keeps beside its stack: what it runs, and what it leaves behind.
template <class T, class F>
struct explicit_payload {
  explicit explicit_payload(F&& f) : run(std::move(f)) {}
  explicit explicit_payload(const F& f) : run(f) {}

  std::optional<F> run;
  std::optional<slot<T>> result;
  std::exception_ptr error;
  core::message last;

  T call(core::message* first) {
    if constexpr (std::is_void_v<T>) {
      receive<T>(first);
      std::invoke(*run);
    } else if constexpr (std::is_invocable_v<F&, T>) {
      return std::invoke(*run, receive<T>(first));
    } else {
      receive<T>(first);
      return std::invoke(*run);
    }
  }
  static core::message* body(core::fiber* self, core::message* first) noexcept {
    auto& p = *static_cast<explicit_payload*>(core::fiber_payload(self));
    p.last.family = family<T>();
    try {
      if constexpr (std::is_void_v<T>) {
        p.call(first);
        p.result.emplace();
      } else {
        p.result.emplace(p.call(first));
      }
    } catch (const fiber_exit&) {
      p.result.emplace();
    } catch (...) {
      p.error = std::current_exception();
      p.last.error = &p.error;
    }
    if (p.result) p.last.value = &*p.result;
    p.run.reset();  // what the callable holds is let go as soon as it has ended
    if (void* late = core::fiber_take_pending(self)) delete static_cast<std::exception_ptr*>(late);
    return &p.last;
  }
  static void destroy(void* payload) noexcept { static_cast<explicit_payload*>(payload)->~explicit_payload(); }
  static constexpr core::body ops{body, destroy};
};

template <class T, class F>
core::fiber* make_explicit(F&& run, std::size_t stack_size, const char* name) {
  using callable = std::decay_t<F>;
  using payload = explicit_payload<T, callable>;
  static_assert(std::is_void_v<T> ? std::is_invocable_v<callable&>
                                  : std::is_invocable_v<callable&, T> || std::is_invocable_v<callable&>,
                "the callable takes a T, or nothing");
  core::fiber_options o;
  o.stack_size = stack_size;
  o.name = name;
  o.family = family<T>();
  o.eh_globals = abi::__cxa_get_globals();
  core::fiber* f = core::fiber_new(sizeof(payload), payload::ops, o);
  if (!f) throw std::bad_alloc();
  new (core::fiber_payload(f)) payload(std::forward<F>(run));
  return f;
}

// fiber(f) deduces the family from f's argument, or from its result if it takes none. std::function's own
// deduction guide knows every kind of callable.
template <class S>
struct signature_of;
template <class R, class A>
struct signature_of<R(A)> {
  using type = std::decay_t<A>;
};
template <class R>
struct signature_of<R()> {
  using type = R;
};
template <class S>
signature_of<S> signature_of_function(const std::function<S>&);
template <class F>
using family_of = typename decltype(signature_of_function(std::function(std::declval<F>())))::type;

}  // namespace tendril::detail
