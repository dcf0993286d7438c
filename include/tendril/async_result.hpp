// A result that somebody will set: what gevent calls AsyncResult, asyncio Future, the standard
// library a promise and its future in one.
//
//   tendril::async_result<int> answer;
//   std::thread([&] { answer.set(compute()); }).detach();
//   int a = answer.get();   // other fibers run meanwhile
//
// Any kernel thread may use it, one without fibers too. Waiters wake in the order in which they
// came. It may be destroyed as soon as a get() or wait() has returned.
#pragma once

#include <optional>
#include <variant>

#include "detail/waiting.hpp"

namespace tendril {

template <class T = void>
class async_result {
 public:
  using result_type = T;

  async_result() = default;
  async_result(const async_result&) = delete;
  async_result& operator=(const async_result&) = delete;

  // Whether it has been set, with a value or an exception.
  bool ready() const noexcept { return ready_.load(std::memory_order_acquire); }
  // Whether it has been set with a value.
  bool successful() const noexcept { return ready() && !error_; }
  // The exception that it was set with, or null.
  std::exception_ptr exception() const noexcept { return ready() ? error_ : nullptr; }

  // Sets the value (from anything that makes a T; from nothing for void) and wakes all waiters.
  // error if it was set before.
  template <class... V>
    requires(
        (std::is_void_v<T> && sizeof...(V) == 0) ||
        std::constructible_from<std::conditional_t<std::is_void_v<T>, std::monostate, T>, V...>)
  void set(V&&... value) {
    detail::held h(exclusion_);
    refuse_second();
    value_.emplace(std::forward<V>(value)...);
    finish();
  }
  // Sets an exception, which get() will throw, and wakes all waiters.
  void set_exception(std::exception_ptr e) {
    detail::held h(exclusion_);
    refuse_second();
    error_ = std::move(e);
    finish();
  }
  template <class E>
    requires(!std::same_as<std::remove_cvref_t<E>, std::exception_ptr>)
  void set_exception(E&& e) {
    set_exception(std::make_exception_ptr(std::forward<E>(e)));
  }
  // Sets what a task that has ended left: `t.link(std::ref(result))` hands its end on. (gevent:
  // link(AsyncResult))
  template <class Task>
    requires requires(const Task& t) { t.get(), t.exception(); }
  void operator()(const Task& t) {
    try {
      if constexpr (std::is_void_v<T>) t.get(), set();
      else set(t.get());
    } catch (...) {
      if (ready()) throw;
      set_exception(std::current_exception());
    }
  }

  // Waits until it is set, and returns the value (a reference that lives as long as this), or
  // throws the exception.
  std::add_lvalue_reference_t<T> get() {
    wait();
    return result();
  }
  // The same, for at most `timeout`; then throws timeout_error.
  template <class Rep, class Period>
  std::add_lvalue_reference_t<T> get(std::chrono::duration<Rep, Period> timeout) {
    if (!wait(timeout)) throw timeout_error("get() of an async_result timed out");
    return result();
  }
  // Without waiting: timeout_error if it is not set. (gevent: get_nowait)
  std::add_lvalue_reference_t<T> try_get() {
    if (!ready()) throw timeout_error("the async_result is not set");
    return result();
  }
  // Waits until it is set; does not throw the exception that it was set with.
  void wait() { wait_until(detail::never); }
  // The same, for at most `timeout`, or until `t`; returns whether it is set.
  template <class Rep, class Period>
  bool wait(std::chrono::duration<Rep, Period> timeout) {
    return wait_until(detail::later(timeout));
  }
  bool wait_until(clock::time_point t) {
    return detail::wait_until_ready(
        exclusion_, waiters_, [this] { return ready(); }, t, core::wait_kind::event);
  }

  // For wait() in wait.hpp.
  bool watch_ready(detail::waiter& w) {
    return detail::watch(exclusion_, waiters_, w, [this] { return ready(); });
  }
  void unwatch_ready(detail::waiter& w) noexcept { detail::unwatch(exclusion_, waiters_, w); }

 private:
  using stored_type = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

  void refuse_second() const {
    if (ready()) throw error("the async_result has been set before");
  }
  void finish() noexcept {
    ready_.store(true, std::memory_order_release);
    detail::grant_all(waiters_);
  }
  std::add_lvalue_reference_t<T> result() {
    if (error_) std::rethrow_exception(error_);
    if constexpr (!std::is_void_v<T>) return *value_;
  }

  detail::exclusion exclusion_;
  std::atomic<bool> ready_{false};
  std::optional<stored_type> value_;
  std::exception_ptr error_;
  detail::wait_list waiters_;
};

}  // namespace tendril
