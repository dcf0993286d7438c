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
// does not wait is not interrupted. A time-out ends one wait: code that catches the exception may
// go on and wait again. Time-outs nest. If several have passed, the outermost one throws, since its
// exception leaves the scopes of the others too; a kill() goes first. Cooperative POSIX calls that
// would have to wait fail with ECANCELED, until the next wait of this API throws. Any kernel thread
// may use it.
#pragma once

#include <atomic>
#include <concepts>
#include <functional>
#include <type_traits>
#include <utility>

#include "detail/parking.hpp"

namespace tendril {

class timeout {
 public:
  // Limits the waits of the running fiber until the end of the scope. If `after` is 0 or less, the
  // next wait throws. (gevent: Timeout.start_new)
  template <class Rep, class Period>
  explicit timeout(std::chrono::duration<Rep, Period> after) {
    start(detail::later(after));
  }
  // The same with an exception of your own in place of timeout_error.
  template <class Rep, class Period, class E>
  timeout(std::chrono::duration<Rep, Period> after, E&& exception) {
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

// Returns f(), whose waits are limited to `after` from now: then throws timeout_error. (gevent:
// with_timeout)
template <class Rep, class Period, std::invocable F>
decltype(auto) with_timeout(std::chrono::duration<Rep, Period> after, F&& f) {
  timeout limit(after);
  return std::invoke(std::forward<F>(f));
}
// The same, but returns `otherwise` in place of throwing. The exception of another time-out is
// passed on. (gevent: timeout_value)
template <class Rep, class Period, std::invocable F, class V>
auto with_timeout(std::chrono::duration<Rep, Period> after, F&& f, V&& otherwise) {
  using result = std::decay_t<std::invoke_result_t<F>>;
  timeout limit(after);
  try {
    return result(std::invoke(std::forward<F>(f)));
  } catch (const timeout_error& e) {
    if (!limit.threw(e)) throw;
    return result(std::forward<V>(otherwise));
  }
}
// Runs f(), whose waits are limited to `after` from now: then returns without an exception. Returns
// whether f returned. (gevent: Timeout(seconds, False); trio: move_on_after)
template <class Rep, class Period, std::invocable F>
bool move_on_after(std::chrono::duration<Rep, Period> after, F&& f) {
  timeout limit(after);
  try {
    std::invoke(std::forward<F>(f));
    return true;
  } catch (const timeout_error& e) {
    if (!limit.threw(e)) throw;
    return false;
  }
}

}  // namespace tendril
