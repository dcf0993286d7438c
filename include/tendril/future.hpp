// Futures: the results of calls that run elsewhere, on another kernel thread or in another process.
//
//   tendril::thread_pool_executor pool(4);
//   tendril::future<int> f = pool.submit(compress, std::ref(file));
//   f.get();   // the fiber waits; the others of this kernel thread run
//
// A future is pending, then running, then finished; or cancelled while it was pending. Copies are
// handles of the same result. Any kernel thread may use a future, also one without fibers: waiting
// parks the calling fiber, which may be the only one. All waits are cancellation points.
// (concurrent.futures.Future)
#pragma once

#include <chrono>
#include <concepts>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "detail/remote_wait.hpp"
#include "error.hpp"

namespace tendril {

// The call was cancelled before it began. (concurrent.futures.CancelledError)
class cancelled_error : public error {
 public:
  cancelled_error() : error("the future was cancelled") {}
};

template <class R>
class promise;

template <class R>
class future {
 public:
  using result_type = R;
  static_assert(!std::is_reference_v<R>, "a future has a value (wrap a reference in std::ref)");

  // No future.
  future() noexcept = default;
  // Whether this is a handle of some result. All others here throw `error` if it is not.
  bool valid() const noexcept { return state_ != nullptr; }

  // Cancels the call if it has not begun; returns whether it is cancelled.
  bool cancel() const {
    auto lock = locked();
    if (state_->now == status::cancelled) return true;
    if (state_->now != status::pending) return false;
    state_->end(lock, status::cancelled);
    return true;
  }
  bool cancelled() const { return is(status::cancelled); }
  // Whether the call has begun and not ended: too late for cancel().
  bool running() const { return is(status::running); }
  // Whether it has finished or was cancelled.
  bool done() const {
    auto lock = locked();
    return state_->ended();
  }

  // Waits until it is done, and returns the result (a reference that lives as long as the future
  // has handles). Throws what the call threw; cancelled_error. May be called again. (Future.result)
  std::add_lvalue_reference_t<R> get() const& { return value(forever); }
  // On a temporary (submit(...).get()), the result itself is moved out.
  R get() && {
    if constexpr (std::is_void_v<R>) value(forever);
    else return std::move(value(forever));
  }
  // The same for at most `timeout`; then std::system_error with std::errc::timed_out. The call goes
  // on.
  template <class Rep, class Period>
  std::add_lvalue_reference_t<R> get(std::chrono::duration<Rep, Period> timeout) const {
    return value(detail::later(timeout));
  }

  // Waits until it is done, and returns the exception by which the call ended, or null.
  // cancelled_error.
  std::exception_ptr exception() const { return error_at(forever); }
  template <class Rep, class Period>
  std::exception_ptr exception(std::chrono::duration<Rep, Period> timeout) const {
    return error_at(detail::later(timeout));
  }

  // Waits until it is done, for at most `timeout`; returns whether it is. Does not throw what the
  // call threw.
  void wait() const { wait_until(forever); }
  template <class Rep, class Period>
  bool wait(std::chrono::duration<Rep, Period> timeout) const {
    return wait_until(detail::later(timeout));
  }
  bool wait_until(std::chrono::steady_clock::time_point t) const {
    auto lock = locked();
    return state_->end_of_call.wait(lock, t, [&] { return state_->ended(); });
  }

  // Calls f(*this) when it is done, on the kernel thread that ends it, in the order of adding; at
  // once if it is done already. An exception of f is reported on standard error, and otherwise
  // ignored.
  template <std::invocable<const future&> F>
  void add_done_callback(F f) const {
    {
      auto lock = locked();
      if (!state_->ended()) {
        state_->callbacks.push_back([f = std::move(f)](const future& me) mutable { f(me); });
        return;
      }
    }
    reported(f, *this);
  }

  friend bool operator==(const future& a, const future& b) noexcept { return a.state_ == b.state_; }

 private:
  friend class promise<R>;
  static constexpr auto forever = std::chrono::steady_clock::time_point::max();
  enum class status { pending, running, cancelled, finished };

  struct state : std::enable_shared_from_this<state> {
    std::mutex mutex;
    detail::remote_wait end_of_call;
    status now = status::pending;
    std::exception_ptr error;
    std::optional<std::conditional_t<std::is_void_v<R>, std::monostate, R>> value;
    std::vector<std::function<void(const future&)>> callbacks;
    bool ended() const noexcept { return now == status::cancelled || now == status::finished; }
    // Wakes who waits, and then, without the lock, calls back.
    void end(std::unique_lock<std::mutex>& lock, status how) {
      now = how;
      auto calls = std::move(callbacks);
      callbacks.clear();
      end_of_call.notify_all();
      lock.unlock();
      if (calls.empty()) return;
      future me(this->shared_from_this());
      for (auto& f : calls) reported(f, me);
    }
  };

  explicit future(std::shared_ptr<state> s) noexcept : state_(std::move(s)) {}

  template <class F>
  static void reported(F& f, const future& me) {
    try {
      f(me);
    } catch (const std::exception& e) {
      std::fprintf(stderr, "tendril: a done callback threw: %s\n", e.what());
    } catch (...) {
      std::fputs("tendril: a done callback threw\n", stderr);
    }
  }
  std::unique_lock<std::mutex> locked() const {
    if (!state_) throw tendril::error("no future");
    return std::unique_lock(state_->mutex);
  }
  bool is(status s) const {
    auto lock = locked();
    return state_->now == s;
  }
  std::exception_ptr error_at(std::chrono::steady_clock::time_point t) const {
    if (!wait_until(t))
      throw std::system_error(std::make_error_code(std::errc::timed_out), "future");
    // From its end on a state does not change.
    if (state_->now == status::cancelled) throw cancelled_error();
    return state_->error;
  }
  std::add_lvalue_reference_t<R> value(std::chrono::steady_clock::time_point t) const {
    if (std::exception_ptr e = error_at(t)) std::rethrow_exception(std::move(e));
    if constexpr (!std::is_void_v<R>) return *state_->value;
  }

  std::shared_ptr<state> state_;
};

// The other end of a future, for those who make the call: executors, and programs that bring
// results of their own. Used by one kernel thread at a time. Without a result when it goes away,
// the future gets an `error`.
template <class R>
class promise {
  using status = typename future<R>::status;

 public:
  promise() : state_(std::make_shared<typename future<R>::state>()) {}
  promise(promise&&) noexcept = default;
  promise& operator=(promise&& o) noexcept {
    std::swap(state_, o.state_);
    return *this;
  }
  ~promise() {
    if (!state_) return;
    std::unique_lock lock(state_->mutex);
    if (state_->ended()) return;
    state_->error = std::make_exception_ptr(error("the call was given up"));
    state_->end(lock, status::finished);
  }

  future<R> get_future() const noexcept { return future<R>(state_); }

  // The call begins: returns false if it was cancelled, and shall not. `error` if it has begun
  // already. (Future.set_running_or_notify_cancel)
  bool start() {
    std::unique_lock lock(state_->mutex);
    if (state_->now == status::cancelled) return false;
    if (state_->now != status::pending) throw error("the call has begun already");
    state_->now = status::running;
    return true;
  }

  // The call ends. `error` if it has ended already. (Future.set_result, Future.set_exception)
  template <class... V>
    requires(std::is_void_v<R> ? sizeof...(V) == 0 : sizeof...(V) == 1)
  void set_value(V&&... v) {
    auto lock = unfinished();
    state_->value.emplace(std::forward<V>(v)...);
    state_->end(lock, status::finished);
  }
  void set_exception(std::exception_ptr e) {
    auto lock = unfinished();
    state_->error = std::move(e);
    state_->end(lock, status::finished);
  }

 private:
  std::unique_lock<std::mutex> unfinished() {
    std::unique_lock lock(state_->mutex);
    if (state_->ended()) throw error("the future is done already");
    return lock;
  }
  std::shared_ptr<typename future<R>::state> state_;
};

namespace detail {
template <class T>
inline constexpr bool is_future = false;
template <class R>
inline constexpr bool is_future<future<R>> = true;
}  // namespace detail

}  // namespace tendril
