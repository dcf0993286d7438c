// What all executors have in common, and run_in_executor(), by which a fiber waits for one.
//
//   std::string digest = tendril::run_in_executor([&] { return sha256(file); });
//
// An executor makes calls elsewhere: on other kernel threads (thread_pool_executor.hpp) or in other
// processes (process_pool_executor.hpp). Any kernel thread may use it.
// (concurrent.futures.Executor, asyncio's loop.run_in_executor)
#pragma once

#include "detail/cxx20.hpp"

#include <signal.h>

#include <deque>
#include <functional>
#include <mutex>
#include <ranges>
#include <tuple>

#include "detail/next_iterator.hpp"
#include "future.hpp"

namespace tendril {

// Results in the order of the calls: what map() returns. Its destructor cancels the calls whose
// results have not been taken. One fiber at a time may use it.
template <class R>
class [[nodiscard("the calls are cancelled when the results are dropped")]] ordered_results {
  static_assert(!std::is_void_v<R>,
                "map() needs calls that return a value; use submit() for others");

 public:
  // Waits for the next result and returns it; returns an empty optional at the end. Throws what the
  // call threw, or std::system_error with std::errc::timed_out if the time-out passes; both cancel
  // the remaining calls. A cancellation point.
  std::optional<R> next() {
    if (futures_.empty()) return {};
    future<R> f = std::move(futures_.front());
    futures_.pop_front();
    try {
      if (!f.wait_until(deadline_))
        throw std::system_error(std::make_error_code(std::errc::timed_out), "map");
      return std::move(f).get();
    } catch (...) {
      f.cancel();
      cancel();
      throw;
    }
  }
  auto begin() { return detail::next_iterator<ordered_results, R>(*this); }
  std::default_sentinel_t end() const noexcept { return {}; }

  ordered_results(std::deque<future<R>> f, std::chrono::steady_clock::time_point deadline)
      : futures_(std::move(f)), deadline_(deadline) {}
  ordered_results(ordered_results&&) noexcept = default;
  ordered_results& operator=(ordered_results&&) = delete;
  ~ordered_results() { cancel(); }

 private:
  void cancel() {
    for (auto& f : futures_) f.cancel();
    futures_.clear();
  }
  std::deque<future<R>> futures_;
  std::chrono::steady_clock::time_point deadline_;
};

namespace detail {

// While an object lives, its kernel thread blocks all signals, and the threads that it creates
// inherit that mask: signals are handled by the program's own threads.
class signals_blocked {
 public:
  [[nodiscard]] signals_blocked() noexcept {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~signals_blocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  signals_blocked(const signals_blocked&) = delete;

 private:
  sigset_t before_;
};

// A call that an executor was given, with its arguments, and the promise of its result. It is in
// one allocation with that result, which may outlive it.
class submitted_call {
 public:
  // Marks the call as begun. Returns false if it was cancelled: then it must not be made.
  virtual bool start() = 0;
  // Makes the call, which has begun.
  virtual void run() noexcept = 0;
  // Ends the call with that exception.
  virtual void fail(std::exception_ptr e) = 0;
  // Cancels the call if it has not begun.
  virtual void cancel() = 0;
  // Destroys it.
  virtual void drop() noexcept = 0;

  submitted_call* next = nullptr;  // in a queue of calls

 protected:
  ~submitted_call() = default;
};
struct drops_call {
  void operator()(submitted_call* c) const noexcept { c->drop(); }
};
using call_handle = std::unique_ptr<submitted_call, drops_call>;
template <class R, class F>
class call_of final : public submitted_call {
 public:
  explicit call_of(F f) : call_(std::move(f)) {}
  // Makes it. `to` becomes the future of its result.
  static call_handle make(F f, future<R>& to) {
    struct both {
      explicit both(F f) : call(std::move(f)) {}
      typename promise<R>::state result;
      call_of call;
    };
    auto b = std::make_shared<both>(std::move(f));
    call_handle c(&b->call);
    b->call.result_ = promise<R>(std::shared_ptr<typename promise<R>::state>(b, &b->result));
    to = b->call.result_.get_future();
    return c;
  }
  bool start() override { return result_.start(); }
  void run() noexcept override {
    std::exception_ptr failure;
    std::optional<std::conditional_t<std::is_void_v<R>, std::monostate, R>> value;
    try {
      if constexpr (std::is_void_v<R>) (*call_)();
      else value.emplace((*call_)());
    } catch (...) {
      failure = std::current_exception();
    }
    // Before the future ends, destroy what the call holds and the exception it threw on this
    // thread.
    call_.reset();
    if (failure) result_.set_exception(std::move(failure));
    else if constexpr (std::is_void_v<R>) result_.set_value();
    else result_.set_value(std::move(*value));
  }
  void fail(std::exception_ptr e) override { result_.set_exception(std::move(e)); }
  void cancel() override { result_.get_future().cancel(); }
  void drop() noexcept override {
    call_.reset();
    promise<R> last = std::move(result_);  // which holds this object, too
  }

 private:
  promise<R> result_{nullptr};
  std::optional<F> call_;
};
// The call f(args...), into which f and args are moved or copied, and the future of its result.
template <class F, class... A>
auto make_call(F&& f, A&&... args) {
  using result = std::invoke_result_t<std::decay_t<F>, std::decay_t<A>...>;
  auto bound = [call = std::decay_t<F>(std::forward<F>(f)),
                with =
                    std::tuple<std::decay_t<A>...>(std::forward<A>(args)...)]() mutable -> result {
    return std::apply(std::move(call), std::move(with));
  };
  std::pair<call_handle, future<result>> made;
  made.first = call_of<result, decltype(bound)>::make(std::move(bound), made.second);
  return made;
}

}  // namespace detail

// The base of the executors. Each has submit(f, args...), which makes the call elsewhere and
// returns its future.
template <class Derived>
class executor {
 public:
  // Submits f(x) for each x of a range now. Returns the results, in the order of the range. Throws
  // what submit() throws. (Executor.map)
  template <class F, std::ranges::input_range Range>
  auto map(F f, Range&& range) {
    return submit_each(f, range, std::chrono::steady_clock::time_point::max());
  }
  // The same, with one time-out for all results: `timeout` from now.
  template <class F, std::ranges::input_range Range, class Rep, class Period>
  auto map(F f, Range&& range, std::chrono::duration<Rep, Period> timeout) {
    return submit_each(f, range, detail::later(timeout));
  }

 protected:
  executor() = default;
  ~executor() = default;

  // Refuses further jobs. Queued jobs are cancelled if `cancel_futures`, else they are still done.
  template <class State>
  static void close(State& s, bool cancel_futures) {
    decltype(s.jobs) dropped;
    {
      std::lock_guard lock(s.mutex);
      s.closed = true;
      if (cancel_futures) dropped.swap(s.jobs);
      s.work.notify_all();
    }
    for (auto& j : dropped) j->cancel();
  }

 private:
  template <class F, class Range>
  auto submit_each(F& f, Range& range, std::chrono::steady_clock::time_point deadline) {
    using item = std::ranges::range_value_t<Range>;
    using result =
        typename decltype(std::declval<Derived&>().submit(f, std::declval<item>()))::result_type;
    std::deque<future<result>> futures;
    for (auto&& x : range)
      futures.push_back(static_cast<Derived&>(*this).submit(f, item(std::forward<decltype(x)>(x))));
    return ordered_results<result>(std::move(futures), deadline);
  }
};

// Calls f(args...) in `pool` and waits for it while other fibers run. Returns or throws what the
// call does. A cancellation point: a kill ends the wait and cancels a call that has not begun; a
// call that has begun goes on, so what it refers to must outlive it. Any kernel thread may call it.
// (asyncio: loop.run_in_executor)
template <class Pool, class F, class... A>
  requires std::derived_from<Pool, executor<Pool>>
auto run_in_executor(Pool& pool, F&& f, A&&... args) {
  auto result = pool.submit(std::forward<F>(f), std::forward<A>(args)...);
  struct leave {
    decltype(result)& r;
    ~leave() { r.cancel(); }
  } guard{result};
  result.wait();
  return std::move(result).get();
}

}  // namespace tendril
