// Time-outs for a piece of code, whatever it waits for. (gevent.Timeout; asyncio.timeout)
//
//   tendril::timeout limit(2s);
//   fetch();                          // a wait that lasts beyond the two seconds throws timeout_error
//
//   auto page = tendril::with_timeout(2s, [] { return fetch(); });          // throws timeout_error
//   auto page = tendril::with_timeout(2s, [] { return fetch(); }, "");      // or returns ""
//   bool done = tendril::move_on_after(2s, [] { fetch(); });                // or goes on silently
//
// A time-out ends a wait of the fiber that made it, not of tasks that the fiber spawns. Code that
// does not wait is not interrupted. A `timeout` ends one wait: code that catches the exception may
// go on and wait again; that of with_timeout() and move_on_after() ends every wait of the function
// from then on. Time-outs nest. If several have passed, the outermost one throws, since its
// exception leaves the scopes of the others too; a kill() goes first. Cooperative POSIX calls that
// would have to wait fail with ECANCELED, until the next wait of this API throws. Any kernel thread
// may use it.
#pragma once

#include "detail/cxx20.hpp"

#include <algorithm>
#include <atomic>
#include <concepts>
#include <exception>
#include <functional>
#include <type_traits>
#include <utility>

#include "detail/parking.hpp"

namespace tendril {

namespace detail {
class call_limit;
}

class timeout {
 public:
  // Limits the waits of the running fiber until the end of the scope. If `after` is 0 or less, the
  // next wait throws. (gevent: Timeout.start_new)
  template <class Rep, class Period>
  [[nodiscard("the limit ends at once unless the timeout has a name")]] explicit timeout(
      std::chrono::duration<Rep, Period> after) {
    start(detail::later(after));
  }
  // The same with an exception of your own in place of timeout_error.
  template <class Rep, class Period, class E>
  [[nodiscard("the limit ends at once unless the timeout has a name")]] timeout(
      std::chrono::duration<Rep, Period> after, E&& exception) {
    if constexpr (std::same_as<std::remove_cvref_t<E>, std::exception_ptr>)
      limit_.error = std::forward<E>(exception);
    else limit_.error = std::make_exception_ptr(std::forward<E>(exception));
    start(detail::later(after));
  }
  timeout(const timeout&) = delete;
  timeout& operator=(const timeout&) = delete;
  // Ends the limit. Must run in the fiber that made this object.
  ~timeout() { cancel(); }

  // Ends the limit before its scope ends. Must be called by the fiber that made it, else the
  // process aborts. (gevent: cancel, close)
  void cancel() noexcept {
    if (!fiber_) return;
    if (core::fiber_current() != fiber_)
      core::fail("only the fiber that made a timeout may cancel it");
    core::fiber_extra& x = core::fiber_extras(fiber_);
    if (limit_.inner) limit_.inner->outer = limit_.outer;
    else x.limits = limit_.outer;
    if (limit_.outer) limit_.outer->inner = limit_.inner;
    detail::set_limit(fiber_);
    fiber_ = nullptr;
  }
  // Whether it can still throw.
  bool pending() const noexcept { return fiber_ && !limit_.fired; }
  // Whether it has thrown.
  bool expired() const noexcept { return limit_.fired; }
  // Whether this time-out threw `e`, rather than another one.
  bool threw(const timeout_error& e) const noexcept { return e.id() == limit_.id; }

 private:
  friend class detail::call_limit;
  struct lasting {};
  template <class Rep, class Period>
  timeout(std::chrono::duration<Rep, Period> after, lasting) {
    limit_.lasts = true;
    start(detail::later(after));
  }
  void start(clock::time_point at) {
    static std::atomic<std::uint64_t> last{0};
    limit_.id = last.fetch_add(1, std::memory_order_relaxed) + 1;
    limit_.at = detail::deadline_of(at);
    fiber_ = core::fiber_current();
    core::fiber_extra& x = core::fiber_extras(fiber_);
    limit_.outer = static_cast<detail::time_limit*>(x.limits);
    if (limit_.outer) limit_.outer->inner = &limit_;
    x.limits = &limit_;
    detail::set_limit(fiber_);
  }

  detail::time_limit limit_;
  core::fiber* fiber_ = nullptr;  // null: cancelled
};

namespace detail {

// The time-out of a call, and the rule of with_timeout() for how that ends.
class call_limit {
 public:
  template <class Rep, class Period>
  explicit call_limit(std::chrono::duration<Rep, Period> after)
      : x_(core::fiber_extras(core::fiber_current())),
        before_(std::exchange(x_.limit_ended_wait, INT64_MIN)),
        limit_(after, timeout::lasting{}) {}
  ~call_limit() { x_.limit_ended_wait = std::max(x_.limit_ended_wait, before_); }

  // Returns f(), or throws the time-out's exception.
  template <class F>
  decltype(auto) call(F&& f) {
    try {
      if constexpr (std::is_void_v<std::invoke_result_t<F>>) {
        std::invoke(std::forward<F>(f));
        if (time_limit* l = has_ended_a_wait()) throw_limit(*l);
      } else {
        decltype(auto) result = std::invoke(std::forward<F>(f));
        if (time_limit* l = has_ended_a_wait()) throw_limit(*l);
        return static_cast<std::invoke_result_t<F>>(std::forward<decltype(result)>(result));
      }
    } catch (const fiber_exit&) {
      throw;
    } catch (const timeout_error& e) {
      if (!limit_.threw(e) && !of_an_outer(e)) throw_nested();
      throw;
    } catch (...) {
      throw_nested();
      throw;
    }
  }
  bool threw(const timeout_error& e) const noexcept { return limit_.threw(e); }

 private:
  // If the limit has ended a wait: it, or the outermost one that had passed by then, which has
  // priority.
  time_limit* has_ended_a_wait() noexcept {
    time_limit& mine = limit_.limit_;
    return x_.limit_ended_wait < mine.at ? nullptr : outermost_passed(&mine, x_.limit_ended_wait);
  }
  // In a handler: throws with the handled exception inside.
  void throw_nested() {
    time_limit* l = has_ended_a_wait();
    if (!l) return;
    if (l->error) throw_limit(*l);
    set_fired(*l);
    std::throw_with_nested(timeout_error("timed out", l->id));
  }
  bool of_an_outer(const timeout_error& e) const noexcept {
    for (const time_limit* l = limit_.limit_.outer; l; l = l->outer) {
      if (l->id == e.id()) return true;
    }
    return false;
  }

  core::fiber_extra& x_;
  std::int64_t before_;
  timeout limit_;
};

}  // namespace detail

// Returns f(), whose waits are limited to `after` from now. If the limit has ended one of them, it
// throws timeout_error, however f came back: C code may have turned the failed wait into a result
// (-1), or the time-out's exception was caught. An exception of f's own is then nested in it
// (std::nested_exception). Each further wait of f ends at once. A limit that has passed but ended
// no wait changes nothing: f's result is returned. (gevent: with_timeout; trio: fail_after)
template <class Rep, class Period, std::invocable F>
decltype(auto) with_timeout(std::chrono::duration<Rep, Period> after, F&& f) {
  return detail::call_limit(after).call(std::forward<F>(f));
}
// The same, but returns `otherwise` in place of throwing. The exception of another time-out is
// passed on. (gevent: timeout_value)
template <class Rep, class Period, std::invocable F, class V>
[[nodiscard("the value tells whether f ended in time")]] auto with_timeout(
    std::chrono::duration<Rep, Period> after, F&& f, V&& otherwise) {
  using result = std::decay_t<std::invoke_result_t<F>>;
  detail::call_limit limit(after);
  try {
    return result(limit.call(std::forward<F>(f)));
  } catch (const timeout_error& e) {
    if (!limit.threw(e)) throw;
    return result(std::forward<V>(otherwise));
  }
}
// The same for a function without a result, and without an exception. Returns whether the limit has
// ended none of its waits. (gevent: Timeout(seconds, False); trio: move_on_after)
template <class Rep, class Period, std::invocable F>
[[nodiscard("it tells whether f ended in time")]] bool move_on_after(
    std::chrono::duration<Rep, Period> after, F&& f) {
  detail::call_limit limit(after);
  try {
    limit.call(std::forward<F>(f));
    return true;
  } catch (const timeout_error& e) {
    if (!limit.threw(e)) throw;
    return false;
  }
}

}  // namespace tendril
