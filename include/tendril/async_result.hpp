// A result that is set later by another fiber or thread: gevent's AsyncResult, asyncio's Future,
// the standard library's promise and future in one object.
//
//   tendril::async_result<int> answer;
//   std::thread([&] { answer.set(compute()); }).detach();
//   int a = answer.get();   // other fibers run meanwhile
//
// Any kernel thread may use it, including one without fibers. Waiters wake in the order of their
// arrival. A wait is a cancellation point unless the result is set already: it throws what kill()
// or a timeout delivers, and loop_exit if nothing can end it. The object may be destroyed as soon
// as a get() or wait() has returned.
#pragma once

#include "detail/cxx20.hpp"

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

  // Whether a value or an exception has been set.
  bool ready() const noexcept { return ready_.load(std::memory_order_acquire); }
  // Whether a value has been set.
  bool successful() const noexcept { return ready() && !error_; }
  // The exception that was set, or null.
  [[nodiscard]] std::exception_ptr exception() const noexcept { return ready() ? error_ : nullptr; }

  // Sets the value, constructed from the arguments (none for void), and wakes all waiters. Never
  // waits. Throws `error` if a value or an exception was set before. (gevent: AsyncResult.set)
  template <class... V>
    requires(
        (std::is_void_v<T> && sizeof...(V) == 0) ||
        std::constructible_from<std::conditional_t<std::is_void_v<T>, std::monostate, T>, V...>)
  void set(V&&... value) {
    detail::held h(lock_);
    refuse_second();
    value_.emplace(std::forward<V>(value)...);
    finish();
  }
  // Sets the exception that get() will throw, and wakes all waiters. Throws `error` if a value or
  // an exception was set before. (gevent: AsyncResult.set_exception)
  void set_exception(std::exception_ptr e) {
    detail::held h(lock_);
    refuse_second();
    error_ = std::move(e);
    finish();
  }
  template <class E>
    requires(!std::same_as<std::remove_cvref_t<E>, std::exception_ptr>)
  void set_exception(E&& e) {
    set_exception(std::make_exception_ptr(std::forward<E>(e)));
  }
  // Sets the result of an ended task, its value or its exception: `t.link(std::ref(result))`
  // forwards the task's outcome. (gevent: link(AsyncResult))
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

  // Waits until the result is set. Returns the value (a reference that is valid as long as this
  // object), or throws the exception that was set. (gevent: AsyncResult.get)
  std::add_lvalue_reference_t<T> get() {
    wait();
    return result();
  }
  // The same, for at most `timeout`: throws timeout_error if the result is not set by then.
  template <class Rep, class Period>
  std::add_lvalue_reference_t<T> get(std::chrono::duration<Rep, Period> timeout) {
    if (!wait(timeout)) throw timeout_error("get() of an async_result timed out");
    return result();
  }
  // Returns or throws the result without waiting: throws timeout_error if it is not set. (gevent:
  // get_nowait)
  std::add_lvalue_reference_t<T> try_get() {
    if (!ready()) throw timeout_error("the async_result is not set");
    return result();
  }
  // Waits until the result is set. Does not throw the exception that was set.
  void wait() { wait_until(detail::never); }
  // The same, for at most `timeout`, or until `t`. Returns whether the result is set.
  template <class Rep, class Period>
  bool wait(std::chrono::duration<Rep, Period> timeout) {
    return wait_until(detail::later(timeout));
  }
  bool wait_until(clock::time_point t) {
    return detail::wait_until_ready(
        lock_, waiters_, [this] { return ready(); }, t, core::wait_kind::event);
  }

  // Used by wait() in wait.hpp.
  bool watch_ready(detail::waiter& w) {
    return detail::watch(lock_, waiters_, w, [this] { return ready(); });
  }
  void unwatch_ready(detail::waiter& w) noexcept { detail::unwatch(lock_, waiters_, w); }

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

  detail::biased_lock lock_;
  std::atomic<bool> ready_{false};
  std::optional<stored_type> value_;
  std::exception_ptr error_;
  detail::wait_list waiters_;
};

}  // namespace tendril
