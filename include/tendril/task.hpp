// Tasks: fibers that the hub runs. What gevent calls a Greenlet, and asyncio a Task.
//
//   tendril::task<int> t = tendril::spawn([] { tendril::sleep(10ms); return 42; });
//   t.get();   // 42; other tasks run meanwhile
//
// A task starts when the running fiber first waits (or yields), in the order of spawning, and runs whether or
// not its handle is kept. Tasks stay on the kernel thread where they were spawned; functions here must be
// called on that thread and throw fiber_error elsewhere.
//
// Every wait in this API is a cancellation point: kill() ends it by throwing fiber_exit (or what kill was
// given) there. The cooperative POSIX calls (posix.hpp, and those of libc under the shim) never throw, since C
// code may be waiting in them: in a killed task a call that would have to wait fails with ECANCELED instead,
// until the next wait of this API throws.
#pragma once

#include <chrono>
#include <optional>
#include <ranges>
#include <tuple>
#include <utility>

#include "detail/outcome.hpp"
#include "fiber.hpp"

namespace tendril {

using clock = std::chrono::steady_clock;

// A handle of a spawned task with a result of type R. Copies are handles of the same task.
template <class R>
class task {
 public:
  using result_type = R;

  // No task.
  task() noexcept = default;

  // Whether this is a handle of some task.
  bool valid() const noexcept { return fiber_.valid(); }
  // Whether the task has ended. Any thread may ask.
  bool ready() const noexcept { return fiber_.dead(); }
  // Whether it has ended by returning, or was killed; not by an exception.
  bool successful() const noexcept { return ready() && !state()->failed(); }
  // The exception by which it ended, or null.
  std::exception_ptr exception() const noexcept { return ready() ? state()->failure() : nullptr; }

  // Waits until the task has ended, and returns its result (a reference that lives as long as the task has
  // handles; void for void). Throws what the task threw; fiber_exit if it was killed; loop_exit if nothing can
  // ever end it. The result stays there: get() may be called again.
  // fiber_error: no task, another kernel thread's, or the task itself.
  std::add_lvalue_reference_t<R> get() const& {
    wait_for_end(clock::time_point::max());
    return state()->get();
  }
  // On a temporary (spawn(...).get()), the result itself is moved out.
  R get() && {
    wait_for_end(clock::time_point::max());
    if constexpr (std::is_void_v<R>) state()->get();
    else return std::move(state()->get());
  }

  // Waits until the task has ended; does not throw what it threw.
  void join() const { wait_for_end(clock::time_point::max()); }
  // The same, for at most `timeout`; returns whether the task has ended.
  template <class Rep, class Period>
  bool join(std::chrono::duration<Rep, Period> timeout) const {
    return wait_for_end(detail::later(timeout));
  }

  // Throws fiber_exit in the task where it waits, and waits until it has ended. A task that has not begun never
  // begins; one that has ended stays as it is; one that is suspended in a switch_to of its own gets it at its next
  // wait. A task may catch fiber_exit and go on: then this waits on.
  void kill() const { kill(fiber_exit{}); }
  // The same with another exception; the task then has failed with it, unless it caught it.
  template <class E>
    requires(!detail::is_duration<E>)
  void kill(E&& exception) const {
    request_kill(std::forward<E>(exception));
    if (!is_current()) join();
    else detail::throw_if_interrupted();
  }
  // Kills, and waits for at most `timeout`; returns whether the task has ended.
  template <class Rep, class Period>
  bool kill(std::chrono::duration<Rep, Period> timeout) const {
    request_kill();
    return is_current() ? (detail::throw_if_interrupted(), false) : join(timeout);
  }
  // Only asks: the exception is thrown when the task next runs.
  void request_kill() const { request_kill(fiber_exit{}); }
  template <class E>
  void request_kill(E&& exception) const {
    check();
    if (!ready()) detail::interrupt(fiber_.handle(), std::make_exception_ptr(std::forward<E>(exception)));
  }

  std::string_view name() const noexcept { return fiber_.name(); }
  std::uint64_t id() const noexcept { return fiber_.id(); }
  const any_fiber& as_fiber() const noexcept { return fiber_; }

  friend bool operator==(const task& a, const task& b) noexcept { return a.fiber_ == b.fiber_; }

  explicit task(any_fiber f) noexcept : fiber_(std::move(f)) {}

 private:
  detail::outcome<R>* state() const noexcept {
    return static_cast<detail::outcome<R>*>(core::fiber_payload(fiber_.handle()));
  }
  bool is_current() const noexcept { return fiber_.handle() == core::fiber_current(); }
  void check() const {
    if (!fiber_.valid()) throw fiber_error("no task");
    if (!core::fiber_on_this_thread(fiber_.handle())) throw fiber_error("task of another kernel thread");
  }
  bool wait_for_end(clock::time_point deadline) const {
    check();
    if (is_current() && !ready()) throw fiber_error("a task cannot wait for its own end");
    return detail::join(fiber_.handle(), *state(), deadline);
  }

  any_fiber fiber_;
};

// Runs f(args...) in a new task; f and args are moved or copied into it. std::bad_alloc if there is no memory.
template <class F, class... A>
  requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
auto spawn(const fiber_options& o, F&& f, A&&... args) {
  using result = std::invoke_result_t<std::decay_t<F>, std::decay_t<A>...>;
  static_assert(!std::is_reference_v<result>, "a task returns a value (wrap a reference in std::ref)");
  return task<result>(any_fiber(
      detail::make_task<result>(o.stack_size, o.name,
                                [call = std::decay_t<F>(std::forward<F>(f)),
                                 bound = std::tuple<std::decay_t<A>...>(std::forward<A>(args)...)]() mutable {
                                  return std::apply(std::move(call), std::move(bound));
                                })));
}
template <class F, class... A>
  requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
auto spawn(F&& f, A&&... args) {
  return spawn(fiber_options{}, std::forward<F>(f), std::forward<A>(args)...);
}

// Waits until all tasks of the range have ended; does not throw what they threw.
template <std::ranges::input_range Tasks>
void joinall(Tasks&& tasks) {
  for (auto&& t : tasks) t.join();
}
// The same, for at most `timeout`; returns whether all have ended.
template <std::ranges::input_range Tasks, class Rep, class Period>
bool joinall(Tasks&& tasks, std::chrono::duration<Rep, Period> timeout) {
  clock::time_point end = detail::later(timeout);
  bool all = true;
  for (auto&& t : tasks) all &= t.join(std::max(end - clock::now(), clock::duration::zero()));
  return all;
}

// Suspends the running fiber for at least `d`; 0 or less: yield(). A cancellation point.
template <class Rep, class Period>
void sleep(std::chrono::duration<Rep, Period> d) {
  detail::sleep_until(d > d.zero() ? detail::later(d) : clock::time_point::min());
}
// Suspends the running fiber until `t`.
inline void sleep_until(clock::time_point t) { detail::sleep_until(t); }
// Lets every other fiber that can run do so once. A cancellation point. (gevent.sleep(0))
inline void yield() { detail::sleep_until(clock::time_point::min()); }

}  // namespace tendril
