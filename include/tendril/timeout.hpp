// Time-outs of a whole piece of code, whatever it waits for in between. (gevent.Timeout;
// asyncio.timeout)
//
//   tendril::timeout limit(2s);
//   fetch();                          // a wait that lasts beyond the two seconds throws timeout_error
//
//   auto page = tendril::with_timeout(2s, [] { return fetch(); });          // throws timeout_error
//   auto page = tendril::with_timeout(2s, [] { return fetch(); }, "");      // or returns ""
//   bool done = tendril::move_on_after(2s, [] { fetch(); });                // or goes on silently
//
// A time-out ends a wait of the fiber that began it (tasks that it spawns meanwhile are their own);
// code that does not wait is never interrupted. It ends one wait: code that catches the exception
// may go on and wait again. Time-outs nest. If several have passed, the outermost throws, as its
// exception leaves the scope of the others too; a kill() goes before them all. The cooperative
// POSIX calls fail with ECANCELED, until the next wait of this API throws.
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
  // In force from now until the end of the scope, for the running fiber. 0 or less: the very next
  // wait throws.
  template <class Rep, class Period>
  explicit timeout(std::chrono::duration<Rep, Period> after) {
    start(detail::later(after));
  }
  // With an exception of one's own in place of timeout_error.
  template <class Rep, class Period, class E>
  timeout(std::chrono::duration<Rep, Period> after, E&& exception) {
    if constexpr (std::same_as<std::remove_cvref_t<E>, std::exception_ptr>)
      limit_.error = std::forward<E>(exception);
    else limit_.error = std::make_exception_ptr(std::forward<E>(exception));
    start(detail::later(after));
  }
  timeout(const timeout&) = delete;
  timeout& operator=(const timeout&) = delete;
  // Must run in the fiber that made it.
  ~timeout() { cancel(); }

  // Ends it before its scope does. (gevent: cancel, close)
  void cancel() noexcept {
    if (!fiber_) return;
    if (core::fiber_current() != fiber_)
      core::fail("a timeout is to be cancelled by the fiber that began it");
    core::fiber_extra& x = core::fiber_extras(fiber_);
    if (limit_.inner) limit_.inner->outer = limit_.outer;
    else x.limits = limit_.outer;
    if (limit_.outer) limit_.outer->inner = limit_.inner;
    detail::set_limit(fiber_);
    fiber_ = nullptr;
  }
  // Whether it may still throw.
  bool pending() const noexcept { return fiber_ && !limit_.fired; }
  // Whether it has thrown.
  bool expired() const noexcept { return limit_.fired; }
  // Whether `e` is what it threw, rather than another time-out.
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

// Returns f(), which may wait until `after` has passed; then throws timeout_error.
template <class Rep, class Period, std::invocable F>
decltype(auto) with_timeout(std::chrono::duration<Rep, Period> after, F&& f) {
  timeout limit(after);
  return std::invoke(std::forward<F>(f));
}
// The same, but then returns `otherwise`. Another's time-out goes through. (gevent: timeout_value)
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
// Runs f(), which may wait until `after` has passed; then goes on without an exception. Returns
// whether f ended by itself. (gevent: Timeout(seconds, False); trio: move_on_after)
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
