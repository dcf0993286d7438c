// Futures: results of calls that run on another kernel thread or in another process.
//
//   tendril::thread_pool_executor pool(4);
//   tendril::future<int> f = pool.submit(compress, std::ref(file));
//   f.get();   // this fiber waits; the other fibers of this kernel thread run
//
// A future is pending, then running, then finished; a pending one can be cancelled instead. Copies
// are handles of the same result. Any kernel thread may use a future, including one without fibers,
// where the thread's main fiber is parked. All waits are cancellation points: they throw what
// kill() or a timeout delivers. (concurrent.futures.Future)
#pragma once

#include "detail/cxx20.hpp"

#include <atomic>
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
#include "lost_exception.hpp"

namespace tendril {

// Thrown for a call that was cancelled before it began. (concurrent.futures.CancelledError)
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
  static_assert(!std::is_reference_v<R>,
                "a future needs a value type (wrap a reference in std::ref)");

  // No future.
  future() noexcept = default;
  // Whether this is a handle of a result. All other functions throw `error` if it is not.
  bool valid() const noexcept { return state_ != nullptr; }

  // Cancels the call if it has not begun. Returns whether it is cancelled. Never waits for the
  // call.
  bool cancel() const {
    auto lock = locked();
    status was = status::pending;
    if (!state_->now.compare_exchange_strong(was, status::cancelled))
      return was == status::cancelled;
    state_->end(lock, state_);
    return true;
  }
  // Whether the call was cancelled before it began.
  bool cancelled() const { return is(status::cancelled); }
  // Whether the call has begun and has not ended; cancel() has no effect then.
  bool running() const { return is(status::running); }
  // Whether the call has finished or was cancelled.
  bool done() const { return checked().ended(); }

  // Waits until the call is done and returns its result (a reference that is valid while the result
  // has handles). Throws what the call threw, or cancelled_error. May be called again.
  // (Future.result)
  std::add_lvalue_reference_t<R> get() const& { return value(forever); }
  // On a temporary (submit(...).get()), moves the result out.
  R get() && {
    if constexpr (std::is_void_v<R>) value(forever);
    else return std::move(value(forever));
  }
  // The same, for at most `timeout`: then throws std::system_error with std::errc::timed_out. The
  // call goes on.
  template <class Rep, class Period>
  std::add_lvalue_reference_t<R> get(std::chrono::duration<Rep, Period> timeout) const {
    return value(detail::later(timeout));
  }

  // Waits until the call is done. Returns the exception that the call ended with, or null. Throws
  // cancelled_error; with a time-out, std::system_error with std::errc::timed_out.
  // (Future.exception)
  [[nodiscard]] std::exception_ptr exception() const { return error_at(forever); }
  template <class Rep, class Period>
  [[nodiscard]] std::exception_ptr exception(std::chrono::duration<Rep, Period> timeout) const {
    return error_at(detail::later(timeout));
  }

  // Waits until the call is done, for at most `timeout`, or until `t`. Returns whether it is done.
  // Does not throw what the call threw.
  void wait() const { wait_until(forever); }
  template <class Rep, class Period>
  bool wait(std::chrono::duration<Rep, Period> timeout) const {
    return wait_until(detail::later(timeout));
  }
  bool wait_until(std::chrono::steady_clock::time_point t) const {
    if (checked().ended()) return true;
    auto lock = locked();
    return state_->end_of_call.wait(lock, t, [&] { return state_->ended(); });
  }

  // Calls f(*this) when the call is done: on the kernel thread that completes it, in the order of
  // these calls, or at once if it is done already. An exception of f is reported on standard error
  // and otherwise ignored. (Future.add_done_callback)
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

  struct state {
    std::mutex mutex;  // of those who wait, and of the callbacks
    detail::remote_wait end_of_call;
    // Under the lock, it becomes `cancelled` or `finished`: the last change, after which the result
    // is read without the lock. It becomes `running` without.
    std::atomic<status> now{status::pending};
    std::exception_ptr error;
    std::optional<std::conditional_t<std::is_void_v<R>, std::monostate, R>> value;
    std::vector<std::function<void(const future&)>> callbacks;
    std::atomic<bool> asked{false};  // somebody knows the error
    ~state() {
      if (error && !asked.load(std::memory_order_relaxed)) [[unlikely]]
        detail::lose("call", 0, "", std::move(error));
    }
    bool ended() const noexcept { return now.load(std::memory_order_acquire) >= status::cancelled; }
    // The call has ended: wakes the waiters, releases the lock, then calls the callbacks.
    void end(std::unique_lock<std::mutex>& lock, const std::shared_ptr<state>& self) {
      auto calls = std::move(callbacks);
      callbacks.clear();
      end_of_call.notify_all();
      lock.unlock();
      if (calls.empty()) return;
      future me(self);
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
  std::unique_lock<std::mutex> locked() const { return std::unique_lock(checked().mutex); }
  state& checked() const {
    if (!state_) throw tendril::error("no future");
    return *state_;
  }
  bool is(status s) const { return checked().now.load(std::memory_order_acquire) == s; }
  std::exception_ptr error_at(std::chrono::steady_clock::time_point t) const {
    if (!wait_until(t))
      throw std::system_error(std::make_error_code(std::errc::timed_out), "future");
    if (is(status::cancelled)) throw cancelled_error();
    state_->asked.store(true, std::memory_order_relaxed);
    return state_->error;
  }
  std::add_lvalue_reference_t<R> value(std::chrono::steady_clock::time_point t) const {
    if (std::exception_ptr e = error_at(t)) std::rethrow_exception(std::move(e));
    if constexpr (!std::is_void_v<R>) return *state_->value;
  }

  std::shared_ptr<state> state_;
};

// The producing end of a future, for executors and for programs that complete futures themselves.
// One kernel thread at a time may use it. If it is destroyed without a result, the future ends with
// an `error`.
template <class R>
class promise {
  using status = typename future<R>::status;

 public:
  using state = typename future<R>::state;
  promise() : state_(std::make_shared<state>()) {}
  // With a state that the caller has allocated together with something else.
  explicit promise(std::shared_ptr<state> s) noexcept : state_(std::move(s)) {}
  promise(promise&&) noexcept = default;
  promise& operator=(promise&& o) noexcept {
    std::swap(state_, o.state_);
    return *this;
  }
  ~promise() {
    if (!state_ || state_->ended()) return;
    std::unique_lock lock(state_->mutex);
    if (state_->ended()) return;
    state_->error =
        std::make_exception_ptr(error("the promise was destroyed before the call had ended"));
    state_->asked = true;  // nothing has failed
    finish(lock);
  }

  // Returns a handle of the result; may be called again.
  [[nodiscard]] future<R> get_future() const noexcept { return future<R>(state_); }

  // Marks the call as begun. Returns false if it was cancelled: then it must not be made. Throws
  // `error` if it has begun already. (Future.set_running_or_notify_cancel)
  [[nodiscard("a cancelled call must not be made")]] bool start() {
    status was = status::pending;
    if (state_->now.compare_exchange_strong(was, status::running)) return true;
    if (was == status::cancelled) return false;
    throw error("the call has begun already");
  }

  // Ends the call with a value (none for void) or an exception. Throws `error` if it has ended
  // already. (Future.set_result, Future.set_exception)
  template <class... V>
    requires(std::is_void_v<R> ? sizeof...(V) == 0 : sizeof...(V) == 1)
  void set_value(V&&... v) {
    auto lock = unfinished();
    state_->value.emplace(std::forward<V>(v)...);
    finish(lock);
  }
  void set_exception(std::exception_ptr e) {
    auto lock = unfinished();
    state_->error = std::move(e);
    finish(lock);
  }

 private:
  std::unique_lock<std::mutex> unfinished() {
    std::unique_lock lock(state_->mutex);
    if (state_->ended()) throw error("the future is done already");
    return lock;
  }
  void finish(std::unique_lock<std::mutex>& lock) {
    state_->now.store(status::finished, std::memory_order_release);
    state_->end(lock, state_);
  }
  std::shared_ptr<state> state_;
};

namespace detail {
template <class T>
inline constexpr bool is_future = false;
template <class R>
inline constexpr bool is_future<future<R>> = true;
}  // namespace detail

}  // namespace tendril
