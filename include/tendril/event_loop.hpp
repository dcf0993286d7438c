// An event loop in asyncio's terms, over the hub that every kernel thread has anyway.
//
//   tendril::event_loop loop;
//   auto page = loop.create_task(fetch, "a");
//   loop.call_later(1s, [] { std::puts("a second has passed"); });
//   use(loop.run_until_complete(page));
//
//   tendril::event_loop::run([] { ... });    // asyncio.run: a loop of its own, closed at the end
//
// Meant for code ported from asyncio. Tasks created here run like all tasks: they also run while
// the program waits for something other than this loop, and a callback may wait too. What a loop
// adds is a scope for its tasks, callbacks handed over by other kernel threads, and futures that
// call back in the loop. At most one loop runs at a time on a kernel thread. Unless said otherwise,
// only the kernel thread that made a loop may use it.
#pragma once

#include "detail/cxx20.hpp"

#include <concepts>
#include <cstdio>
#include <functional>
#include <list>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "event.hpp"
#include "future.hpp"
#include "queue.hpp"
#include "task.hpp"
#include "wait.hpp"

namespace tendril {

class event_loop;

// A future that the program completes. Copies are handles of the same result. (asyncio.Future)
template <class T>
class loop_future : public future<T> {
 public:
  // No future.
  loop_future() noexcept = default;

  // Completes the future with a value (none for void) or with an exception. Any kernel thread may
  // call it, one at a time. Throws `error` if the future is done or was cancelled. (asyncio:
  // InvalidStateError)
  template <class... V>
    requires(std::is_void_v<T> ? sizeof...(V) == 0 : sizeof...(V) == 1)
  void set_result(V&&... value) const {
    promise_->set_value(std::forward<V>(value)...);
  }
  void set_exception(std::exception_ptr e) const { promise_->set_exception(std::move(e)); }
  template <class E>
    requires(!std::same_as<std::remove_cvref_t<E>, std::exception_ptr>)
  void set_exception(E&& e) const {
    set_exception(std::make_exception_ptr(std::forward<E>(e)));
  }
  // Makes the loop call f(future), as by call_soon(), once the future is done; soon, if it is done
  // already. If the loop is closed, f is never called. Any kernel thread may call it.
  template <std::invocable<const future<T>&> F>
  void add_done_callback(F f) const {
    future<T>::add_done_callback([calls = calls_, f = std::move(f)](const future<T>& done) mutable {
      if (!calls->is_shutdown()) calls->put([f = std::move(f), done]() mutable { f(done); });
    });
  }

 private:
  friend class event_loop;
  using call_queue = std::shared_ptr<queue<std::function<void()>>>;
  explicit loop_future(call_queue c) : loop_future(std::move(c), std::make_shared<promise<T>>()) {}
  loop_future(call_queue c, std::shared_ptr<promise<T>> p)
      : future<T>(p->get_future()), promise_(std::move(p)), calls_(std::move(c)) {}

  std::shared_ptr<promise<T>> promise_;
  call_queue calls_;
};

class event_loop {
 public:
  event_loop() = default;
  event_loop(const event_loop&) = delete;
  event_loop& operator=(const event_loop&) = delete;
  // Does what close() does. The loop must not be running.
  ~event_loop() {
    detail::uninterrupted guard;
    end();
  }

  // Runs f(args...) in a new task and returns the task; kill() cancels it. Throws `error` if the
  // loop is closed. (asyncio: loop.create_task)
  template <class F, class... A>
    requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
  auto create_task(F&& f, A&&... args) {
    check_open();
    auto t = spawn(std::forward<F>(f), std::forward<A>(args)...);
    tasks_.push_back(t);
    t.link([this, place = std::prev(tasks_.end())] { tasks_.erase(place); });
    return t;
  }
  // Makes a future that has no result yet. Throws `error` if the loop is closed. (asyncio:
  // loop.create_future)
  template <class T>
  [[nodiscard]] loop_future<T> create_future() {
    check_open();
    return loop_future<T>(calls_);
  }

  // Calls f(args...) in a task of its own, after the functions of earlier calls. kill() on the
  // returned task withdraws the call. A std::exception that f throws is reported on standard error.
  // Throws `error` if the loop is closed. (asyncio: loop.call_soon)
  template <class F, class... A>
    requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
  task<void> call_soon(F&& f, A&&... args) {
    return create_task(reporting(std::forward<F>(f), std::forward<A>(args)...));
  }
  // The same, but not before `delay` has passed, or not before the time `t`.
  template <class Rep, class Period, class F, class... A>
    requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
  task<void> call_later(std::chrono::duration<Rep, Period> delay, F&& f, A&&... args) {
    return call_at(detail::later(delay), std::forward<F>(f), std::forward<A>(args)...);
  }
  template <class F, class... A>
    requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
  task<void> call_at(clock::time_point t, F&& f, A&&... args) {
    return create_task(
        [t, call = reporting(std::forward<F>(f), std::forward<A>(args)...)]() mutable {
          sleep_until(t);
          call();
        });
  }
  // call_soon() for any kernel thread; f must be copyable. It is called while the loop runs. Throws
  // `error` if the loop is closed.
  template <std::invocable F>
  void call_soon_threadsafe(F f) {
    try {
      calls_->put(std::function<void()>(std::move(f)));
    } catch (const queue_shutdown&) {
      throw error("the event loop is closed");
    }
  }
  // The current time, on the clock that call_at() uses.
  clock::time_point time() const { return clock::now(); }

  // Runs the loop until the task has ended. Returns its result (a copy, if it can be copied), or
  // throws what the task threw. Throws `error` if the loop is running or closed, if stop() was
  // called before the task ended, or if another loop is running on this kernel thread.
  template <class R>
  R run_until_complete(const task<R>& t) {
    run_while([&] { wait(std::vector<waitable>{t, stopped_}, forever, 1); });
    if (!t.ready()) throw error("the event loop was stopped before the task had ended");
    if constexpr (std::is_void_v<R> || std::copy_constructible<R>) return t.get();
    else return std::move(t.get());
  }
  // The same for a future, including one of an executor.
  template <class R>
  R run_until_complete(const future<R>& f) {
    return run_until_complete(create_task([f]() -> R { return f.get(); }));
  }
  // The same for f(args...), called in a new task.
  template <class F, class... A>
    requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
  auto run_until_complete(F&& f, A&&... args) {
    return run_until_complete(create_task(std::forward<F>(f), std::forward<A>(args)...));
  }
  // Runs the loop until stop(). Throws `error` as run_until_complete().
  void run_forever() {
    run_while([&] { stopped_.wait(); });
  }
  // Ends the current run, or the next one if the loop is not running. Never waits. Unfinished tasks
  // stay with the loop.
  void stop() noexcept { stopped_.set(); }

  // Kills the remaining tasks (asyncio only warns about them), waits for their end, and drops the
  // callbacks. May be called again. Throws `error` if the loop is running.
  void close() {
    if (running_) throw error("a running event loop cannot be closed");
    end();
  }
  // Whether the loop is running.
  bool is_running() const noexcept { return running_; }
  // Whether the loop is closed.
  bool is_closed() const noexcept { return closed_; }

  // The loop that is running on this kernel thread, or null.
  static event_loop* running() noexcept { return running_here(); }
  // Calls f(args...) in a loop of its own, kills the tasks that remain, and returns or throws the
  // call's outcome. (asyncio.run)
  template <class F, class... A>
    requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
  static auto run(F&& f, A&&... args) {
    return event_loop().run_until_complete(std::forward<F>(f), std::forward<A>(args)...);
  }

 private:
  static event_loop*& running_here() noexcept {
    static thread_local event_loop* loop = nullptr;
    return loop;
  }
  template <class F, class... A>
  static auto reporting(F&& f, A&&... args) {
    return [call = std::decay_t<F>(std::forward<F>(f)),
            bound = std::tuple<std::decay_t<A>...>(std::forward<A>(args)...)]() mutable {
      try {
        std::apply(std::move(call), std::move(bound));
      } catch (const std::exception& e) {
        std::fprintf(stderr, "tendril: a callback of an event loop threw: %s\n", e.what());
      }
    };
  }
  void check_open() const {
    if (closed_) throw error("the event loop is closed");
  }
  template <class F>
  void run_while(F wait_for_end) {
    check_open();
    if (running_) throw error("the event loop is running already");
    if (running_here()) throw error("another event loop is running on this kernel thread");
    struct run_scope {
      event_loop& loop;
      task<void> hand_over;
      explicit run_scope(event_loop& l)
          : loop(l), hand_over(spawn({.name = "event loop"}, [&l, calls = l.calls_] {
              for (auto& call : *calls) l.call_soon(std::move(call));
            })) {
        loop.running_ = true;
        running_here() = &loop;
      }
      ~run_scope() {
        hand_over.request_kill();  // without waiting for it, so that stop() takes effect at once
        loop.stopped_.clear();
        loop.running_ = false;
        running_here() = nullptr;
      }
    } scope(*this);
    wait_for_end();
  }
  void end() {
    closed_ = true;
    calls_->shutdown(true);
    // Request all kills before the first task unwinds.
    std::vector<any_task> left(tasks_.begin(), tasks_.end());
    for (auto& t : left) t.request_kill();
    joinall(left);
  }

  std::shared_ptr<queue<std::function<void()>>> calls_ =
      std::make_shared<queue<std::function<void()>>>();
  event stopped_;
  std::list<any_task> tasks_;
  bool running_ = false;
  bool closed_ = false;
};

// The loop that is running on this kernel thread. Throws `error` if none is.
// (asyncio.get_running_loop)
inline event_loop& get_running_loop() {
  if (event_loop* loop = event_loop::running()) return *loop;
  throw error("no running event loop");
}

}  // namespace tendril
