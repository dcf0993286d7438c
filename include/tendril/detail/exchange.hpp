// How typed values and exceptions travel between fibers: the part of lib/fiber/exchange.cpp that
// throws. Not for programs.
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

// A value in transit; for void, nothing.
template <class T>
struct slot {
  template <class... V>
    requires std::constructible_from<T, V...>
  explicit slot(V&&... v) : value(std::forward<V>(v)...) {}
  T value;
};
template <>
struct slot<void> {};

inline core::eh_state* eh_globals() noexcept {
  return reinterpret_cast<core::eh_state*>(abi::__cxa_get_globals());
}

// The address that identifies a value type. (Not const: a linker may merge equal constants.)
template <class T>
inline char value_type_tag = 0;
template <class T>
const void* value_type_id() noexcept {
  return &value_type_tag<T>;
}

// Whether `e` is a fiber_exit, with which a fiber may end without having failed.
inline bool is_exit(const std::exception_ptr& e) noexcept {
  try {
    std::rethrow_exception(e);
  } catch (const fiber_exit&) {
    return true;
  } catch (...) {
    return false;
  }
}

// Calls reap(), if it is due, after the value has been moved out of the message, or after that
// has failed.
struct reap_after {
  explicit reap_after(const core::message& m) noexcept : due(m.reap_due) {}
  reap_after(const reap_after&) = delete;
  ~reap_after() {
    if (due) [[unlikely]]
      core::reap();
  }
  const bool due;
};

[[noreturn]] inline void throw_refusal(core::switch_result a) {
  switch (core::refusal(reinterpret_cast<std::uintptr_t>(a.context))) {
    case core::refusal::other_thread:
      throw fiber_error("cannot switch to a fiber of another kernel thread");
    case core::refusal::in_hub:
      throw fiber_error("cannot switch to a fiber that waits in the hub");
    case core::refusal::other_value_type:
      throw fiber_error("the fiber waits for a value of another type");
    default:
      throw std::bad_alloc();
  }
}

// Switches to f, or to its first living ancestor. Returns the message that comes back. Always
// inline: see core::arrival.
[[gnu::always_inline]] inline core::message* exchange(core::fiber* f, core::message& m,
                                                      const void* value_type) {
  if (!f) [[unlikely]]
    throw fiber_error("no fiber");
  core::switch_result a = core::fiber_exchange(f, &m, value_type);
  if (!core::is_switch(a.from)) [[unlikely]]
    throw_refusal(a);
  return core::fiber_arrived(a.context, a.from, &m);
}

// Throws what has arrived in place of a value.
[[noreturn]] inline void throw_received(core::message* m) {
  std::exception_ptr e;
  if (auto* instead = static_cast<std::exception_ptr*>(std::exchange(m->instead, nullptr))) {
    e = std::move(*instead);
    delete instead;
  } else if (m->error) e = std::move(*static_cast<std::exception_ptr*>(m->error));
  else if (m->exit) e = std::make_exception_ptr(fiber_exit{});
  else e = std::make_exception_ptr(fiber_error("a value of another type arrived"));
  core::reap();
  std::rethrow_exception(std::move(e));
}

// Reads a message that has arrived: moves the value out before its sender can be destroyed.
template <class T>
[[gnu::always_inline]] inline T receive(core::message* m) {
  if (m->value_type != value_type_id<T>()) [[unlikely]]
    throw_received(m);
  reap_after moved(*m);
  if constexpr (!std::is_void_v<T>) return T(std::move(static_cast<slot<T>*>(m->value)->value));
}

// The same with a value of type T in both directions.
template <class T>
[[gnu::noinline]] T exchange_slow(core::fiber* f, slot<T>& s) {
  core::message m;
  m.value_type = value_type_id<T>();
  m.value = &s;
  return receive<T>(exchange(f, m, value_type_id<T>()));
}
template <class T>
[[gnu::noinline]] T arrived_slow(void* context, void* from) {
  core::message unused;
  return receive<T>(core::fiber_arrived(context, from, &unused));
}
template <class T>
[[gnu::always_inline]] inline T exchange(core::fiber* f, slot<T>& s) {
  core::fiber* current = core::current;
  if (!f || !current) [[unlikely]]
    return exchange_slow<T>(f, s);
  core::fiber_head& self = core::head(current);
  if (!core::can_switch_fast(self, core::head(f), value_type_id<T>())) [[unlikely]]
    return exchange_slow<T>(f, s);
  core::switch_result a = core::switch_fast(self, core::head(f), &s, value_type_id<T>());
  void *context = a.context, *from = a.from;
  if (!core::is_plain(from)) [[unlikely]]
    return arrived_slow<T>(context, from);
  [[maybe_unused]] void* value = core::arrived_fast(self, context, from);
  if constexpr (!std::is_void_v<T>) return T(std::move(static_cast<slot<T>*>(value)->value));
}

// Destroys the fiber-local values (local.hpp) of the running fiber, which is ending, including
// those that their destructors make.
inline void drop_locals(core::fiber* self) noexcept {
  core::fiber_extra& x = core::fiber_extras(self);
  while (x.locals) x.drop_locals(std::exchange(x.locals, nullptr));
}

// What an explicit fiber keeps beside its stack: its callable, and its result.
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
    if (p.result) {
      p.last.value_type = value_type_id<T>();
      p.last.value = &*p.result;
    }
    p.run.reset();  // the callable's contents are destroyed as soon as it has ended
    drop_locals(self);
    if (void* late = core::fiber_take_pending(self)) delete static_cast<std::exception_ptr*>(late);
    return &p.last;
  }
  static void destroy(void* payload) noexcept {
    static_cast<explicit_payload*>(payload)->~explicit_payload();
  }
  static constexpr core::body ops{body, destroy, eh_globals};
};

template <class T, class F>
core::fiber* make_explicit(F&& run, std::size_t stack_size, const char* name) {
  using callable = std::decay_t<F>;
  using payload = explicit_payload<T, callable>;
  static_assert(std::is_void_v<T>
                    ? std::is_invocable_v<callable&>
                    : std::is_invocable_v<callable&, T> || std::is_invocable_v<callable&>,
                "the callable must take a T or nothing");
  core::fiber_options o;
  o.stack_size = stack_size;
  o.name = name;
  o.value_type = value_type_id<T>();
  core::fiber* f = core::fiber_new(sizeof(payload), payload::ops, o);
  if (!f) throw std::bad_alloc();
  new (core::fiber_payload(f)) payload(std::forward<F>(run));
  return f;
}

// fiber(f) deduces T from f's argument, or from its result if it takes none. std::function's own
// deduction guide handles every kind of callable.
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
using value_type_of =
    typename decltype(signature_of_function(std::function(std::declval<F>())))::type;

}  // namespace tendril::detail
