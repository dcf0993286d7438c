// Tasks: fibers that the hub schedules. (gevent.Greenlet, asyncio.Task)
//
//   tendril::task<int> t = tendril::spawn([] { tendril::sleep(10ms); return 42; });
//   t.get();   // 42; other tasks run meanwhile
//
// A task starts when the running fiber first waits or yields, in the order of spawning. It runs
// whether or not a handle of it is kept. A task stays on the kernel thread that spawned it. Any
// kernel thread may use the functions here. On another one than the task's own, they ask its hub,
// which answers when the fibers there that can run have done so: a kill takes effect then.
//
// Every wait of this API is a cancellation point: kill() ends it by throwing fiber_exit (or the
// exception that kill() was given) there. The cooperative POSIX calls (posix.hpp, and those of libc
// under the shim) never throw, since C code may be the caller: in a killed task, a call that would
// have to wait fails with ECANCELED instead, until the next wait of this API throws. A destructor
// may wait while an exception unwinds the task; a kill or time-out then takes effect at the next
// wait after the unwinding.
#pragma once

#include "detail/cxx20.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <ranges>
#include <tuple>
#include <utility>
#include <vector>

#include "detail/elsewhere.hpp"
#include "detail/outcome.hpp"
#include "fiber.hpp"

namespace tendril {

// A handle of a spawned task of any result type. Copies are handles of the same task.
class any_task {
 public:
  // A handle of no task.
  any_task() noexcept = default;

  // Whether this is a handle of a task.
  bool valid() const noexcept { return fiber_.valid(); }
  // Whether the task has ended. Any kernel thread may ask. (gevent: ready)
  bool ready() const noexcept { return valid() && (base()->ended() || fiber_.dead()); }
  // Whether the task has ended by returning or by fiber_exit, rather than by another exception. Any
  // kernel thread may ask. (gevent: successful)
  bool successful() const noexcept {
    if (!ready()) return false;
    base()->note_asked();
    return !base()->failed();
  }
  // The exception that the task ended with, or null (also after fiber_exit). Any kernel thread may
  // ask. (gevent: exception)
  [[nodiscard]] std::exception_ptr exception() const noexcept {
    if (!ready()) return nullptr;
    base()->note_asked();
    return base()->failure();
  }

  // Waits until the task has ended. Does not throw what the task threw. Throws loop_exit if nothing
  // can ever end the wait, and fiber_error for a handle of no task, a task whose kernel thread has
  // ended without it (or is the parent's of a fork), or the calling task itself. (gevent: join)
  [[gnu::always_inline]] void join() const { wait_for_end(detail::never); }
  // The same, for at most `timeout`. Returns whether the task has ended.
  template <class Rep, class Period>
  bool join(std::chrono::duration<Rep, Period> timeout) const {
    return wait_for_end(detail::later(timeout));
  }

  // Throws fiber_exit in the task at its wait, then waits until the task has ended. A task that has
  // not begun never runs; an ended one is unchanged; one that is suspended in a switch_to() gets
  // the exception at its next wait. A task may catch fiber_exit and go on: then kill() goes on
  // waiting. (gevent: kill)
  void kill() const { kill(fiber_exit{}); }
  // The same with another exception. If the task does not catch it, the task has failed with it.
  template <class E>
    requires(!detail::is_duration<E>)
  void kill(E&& exception) const {
    request_kill(std::forward<E>(exception));
    if (!is_current()) join();
    else detail::throw_if_interrupted();
  }
  // Kills the task and waits for at most `timeout`. Returns whether the task has ended.
  template <class Rep, class Period>
  bool kill(std::chrono::duration<Rep, Period> timeout) const {
    request_kill();
    return is_current() ? (detail::throw_if_interrupted(), false) : join(timeout);
  }
  // Only requests the kill: the exception is thrown when the task next runs. Never waits. (gevent:
  // kill(block=False))
  void request_kill() const { request_kill(fiber_exit{}); }
  template <class E>
  void request_kill(E&& exception) const {
    bool here = is_here();
    if (ready()) return;
    if constexpr (std::same_as<std::remove_cvref_t<E>, std::exception_ptr>) {
      interrupt(here, std::forward<E>(exception));
    } else {
      interrupt(here, std::make_exception_ptr(std::forward<E>(exception)));
    }
  }

  // Calls f(task), or f(), once the task has ended: on the task's own stack, after all waiters of
  // its kernel thread were made runnable, in the order of these calls; at once if it has ended
  // already. From another kernel thread, the call is made on the task's, too, unless the task has
  // ended before. f must not wait (a wait throws `error`) and should not throw (exceptions are
  // reported on standard error). Returns a number for unlink(). Throws fiber_error as join() does.
  // (gevent: link)
  template <class F>
  std::size_t link(F f) const {
    return add_link(*this, std::move(f), [](const any_task&) { return true; });
  }
  // The same, but only if the task is successful(). (gevent: link_value)
  template <class F>
  std::size_t link_value(F f) const {
    return add_link(*this, std::move(f), [](const any_task& t) { return has_returned(t); });
  }
  // The same, but only if the task ends by an exception. (gevent: link_exception)
  template <class F>
  std::size_t link_exception(F f) const {
    return add_link(*this, std::move(f), [](const any_task& t) { return !t.successful(); });
  }
  // Removes a link. Returns whether it was still pending. On another kernel thread than the task's,
  // waits for the answer of that one; a kill does not end that wait. (gevent: unlink)
  bool unlink(std::size_t link) const {
    return is_here() ? base()->remove_link(link) : unlink_elsewhere(link);
  }

  // The task's name and id, as those of its fiber (fiber.hpp). The setter copies `n`.
  std::string_view name() const noexcept { return fiber_.name(); }
  void name(const char* n) noexcept { fiber_.name(n); }
  std::uint64_t id() const noexcept { return fiber_.id(); }
  // The fiber that runs the task.
  const any_fiber& as_fiber() const noexcept { return fiber_; }

  friend bool operator==(const any_task& a, const any_task& b) noexcept {
    return a.fiber_ == b.fiber_;
  }

  explicit any_task(any_fiber f) noexcept : fiber_(std::move(f)) {}

  // Used by wait() in wait.hpp.
  bool watch_ready(detail::waiter& w) const {
    if (!is_here()) throw fiber_error("task of another kernel thread");
    return !ready() && base()->watch_ready(w);
  }
  void unwatch_ready(detail::waiter& w) const noexcept { base()->unwatch_ready(w); }

 protected:
  // successful() of an ended task, without asking for its exception.
  static bool has_returned(const any_task& t) noexcept { return !t.base()->failed(); }
  detail::outcome_base* base() const noexcept {
    return static_cast<detail::outcome_base*>(core::fiber_payload(fiber_.handle()));
  }
  bool is_current() const noexcept { return fiber_.handle() == core::fiber_current(); }
  // Whether the task is the calling kernel thread's. Throws fiber_error if there is no task.
  bool is_here(core::fiber* self = core::fiber_current()) const {
    if (!fiber_.valid()) throw fiber_error("no task");
    return core::fibers_share_thread(fiber_.handle(), self);
  }
  [[gnu::always_inline]] bool wait_for_end(clock::time_point deadline) const {
    core::fiber* self = core::fiber_current();
    if (!is_here(self)) [[unlikely]]
      return wait_elsewhere(fiber_.handle(), deadline);
    if (ready()) return true;
    if (fiber_.handle() == self) throw fiber_error("a task cannot wait for its own end");
    return detail::join(self, fiber_.handle(), *base(), deadline);
  }
  template <class Task, class F, class When>
  static std::size_t add_link(const Task& t, F f, When when) {
    bool here = t.is_here();
    detail::outcome_base::callback call = [f = std::move(f), when](core::fiber* self) mutable {
      Task task(any_fiber::adopt_ref(self));
      if (!when(task)) return;
      if constexpr (std::is_invocable_v<F&, const Task&>) f(task);
      else f();
    };
    if (!t.ready()) {
      return here ? t.base()->add_link(std::move(call)) : t.link_elsewhere(std::move(call));
    }
    t.base()->call_link(call, t.fiber_.handle());
    return 0;
  }

  // --- the same from another kernel thread than the task's ---

  [[noreturn]] static void throw_thread_ended() {
    throw fiber_error("the task's kernel thread has ended, or is the parent's of a fork");
  }
  // (Static, or callers would keep the handle in memory.)
  [[gnu::noinline, gnu::cold]] static bool wait_elsewhere(core::fiber* f,
                                                          clock::time_point deadline) {
    return any_task(any_fiber::adopt_ref(f)).wait_elsewhere(deadline);
  }
  bool wait_elsewhere(clock::time_point deadline) const {
    if (ready()) return true;
    // Outlives this wait, which may end first.
    struct end_of_task {
      detail::notice seen;
      std::size_t link = 0;  // the task's kernel thread's
    };
    auto end = std::make_shared<end_of_task>();
    bool asked = detail::start_there(fiber_.handle(), [t = *this, end] {
      if (t.ready()) end->seen.give();
      else end->link = t.base()->add_link([end](core::fiber*) { end->seen.give(); });
    });
    if (!asked) return ready() || (throw_thread_ended(), false);
    struct leave {
      const any_task& t;
      const std::shared_ptr<end_of_task>& end;
      ~leave() {
        if (end->seen.is_given()) return;
        try {
          detail::start_there(t.fiber_.handle(),
                              [t = t, end = end] { t.base()->remove_link(end->link); });
        } catch (const std::bad_alloc&) {  // then it stays until the task ends
        }
      }
    } guard{*this, end};
    return end->seen.wait_until(deadline) || ready();
  }
  void interrupt(bool here, std::exception_ptr e) const {
    if (here) detail::interrupt(fiber_.handle(), std::move(e));
    else interrupt_elsewhere(std::move(e));
  }
  // (If its kernel thread has ended, it will never run.)
  [[gnu::noinline, gnu::cold]] void interrupt_elsewhere(std::exception_ptr e) const {
    detail::start_there(fiber_.handle(), [t = *this, e = std::move(e)]() mutable {
      if (!t.ready()) detail::interrupt(t.fiber_.handle(), std::move(e));
    });
  }
  [[gnu::noinline, gnu::cold]] std::size_t link_elsewhere(
      detail::outcome_base::callback call) const {
    auto f = std::make_shared<detail::outcome_base::callback>(std::move(call));
    std::size_t id = detail::outcome_base::remote_link_id();
    bool asked = detail::start_there(fiber_.handle(), [t = *this, f, id] {
      if (t.ready()) t.base()->call_link(*f, t.fiber_.handle());
      else t.base()->add_link(std::move(*f), id);
    });
    if (asked) return id;
    if (!ready()) throw_thread_ended();
    base()->call_link(*f, fiber_.handle());
    return 0;
  }
  [[gnu::noinline, gnu::cold]] bool unlink_elsewhere(std::size_t link) const {
    struct answer {
      detail::notice given;
      bool was_pending = false;
    };
    auto a = std::make_shared<answer>();
    if (ready() || !detail::start_there(fiber_.handle(), [t = *this, a, link] {
          a->was_pending = t.base()->remove_link(link);
          a->given.give();
        })) {
      return false;
    }
    detail::uninterrupted guard;
    a->given.wait_until(detail::never);
    return a->was_pending;
  }

  any_fiber fiber_;
};

// A handle of a spawned task whose result has type R.
template <class R>
class task : public any_task {
 public:
  using result_type = R;

  // A handle of no task.
  task() noexcept = default;
  explicit task(any_fiber f) noexcept : any_task(std::move(f)) {}

  // Waits until the task has ended and returns its result (a reference that is valid while the task
  // has handles; nothing for void). Throws what the task threw, fiber_exit if it was killed,
  // loop_exit if nothing can ever end the wait, and fiber_error as join() does. The result remains:
  // get() may be called again. (gevent: get)
  [[gnu::always_inline]] std::add_lvalue_reference_t<R> get() const& {
    wait_for_end(detail::never);
    return state()->get();
  }
  // On a temporary (spawn(...).get()), moves the result out.
  [[gnu::always_inline]] R get() && {
    wait_for_end(detail::never);
    return take();
  }
  // The same, for at most `timeout`: then throws timeout_error, and the task runs on.
  template <class Rep, class Period>
  std::add_lvalue_reference_t<R> get(std::chrono::duration<Rep, Period> timeout) const& {
    if (!wait_for_end(detail::later(timeout))) throw timeout_error("get() of a task timed out");
    return state()->get();
  }
  template <class Rep, class Period>
  R get(std::chrono::duration<Rep, Period> timeout) && {
    if (!wait_for_end(detail::later(timeout))) throw timeout_error("get() of a task timed out");
    return take();
  }

  // As in any_task, but f is called with a handle of this type.
  template <class F>
  std::size_t link(F f) const {
    return add_link(*this, std::move(f), [](const any_task&) { return true; });
  }
  template <class F>
  std::size_t link_value(F f) const {
    return add_link(*this, std::move(f), [](const any_task& t) { return has_returned(t); });
  }
  template <class F>
  std::size_t link_exception(F f) const {
    return add_link(*this, std::move(f), [](const any_task& t) { return !t.successful(); });
  }

 private:
  friend class any_task;
  detail::outcome<R>* state() const noexcept { return static_cast<detail::outcome<R>*>(base()); }
  R take() const {
    if constexpr (std::is_void_v<R>) state()->get();
    else return std::move(state()->get());
  }
};

// Runs f(args...) in a new task, into which f and args are moved or copied. Returns its handle.
// Never waits. Any kernel thread may call it; the task belongs to that thread. Throws
// std::bad_alloc if there is no memory. (gevent: spawn)
template <class F, class... A>
  requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
auto spawn(const fiber_options& o, F&& f, A&&... args) {
  using result = std::invoke_result_t<std::decay_t<F>, std::decay_t<A>...>;
  static_assert(!std::is_reference_v<result>,
                "a task must return a value (wrap a reference in std::ref)");
  return task<result>(any_fiber(detail::make_task<result>(
      o.stack_size, o.name,
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

// Selects a precise wake-up. A sleep of 8 ms or more, and the time-out of any other wait, may end
// up to a millisecond late: waking all sleepers of a millisecond together is much cheaper than
// waking each on its own. A shorter sleep, or a precise one, ends as soon as the kernel wakes the
// thread (some 50 us late) and the other fibers yield.
inline constexpr struct precise_t {
} precise{};

// Suspends the running fiber for at least `d`; if `d` is 0 or less, yields. A cancellation point.
// Any kernel thread may call it. (gevent.sleep)
template <class Rep, class Period>
void sleep(std::chrono::duration<Rep, Period> d) {
  detail::sleep_until(d > d.zero() ? detail::later(d) : clock::time_point::min());
}
template <class Rep, class Period>
void sleep(std::chrono::duration<Rep, Period> d, precise_t) {
  detail::sleep_until(d > d.zero() ? detail::later(d) : clock::time_point::min(), true);
}
// Suspends the running fiber at least until `t`. A cancellation point. Any kernel thread may call
// it.
inline void sleep_until(clock::time_point t) { detail::sleep_until(t); }
inline void sleep_until(clock::time_point t, precise_t) { detail::sleep_until(t, true); }
// Lets every other runnable fiber run once. A cancellation point. Any kernel thread may call it.
// (gevent.sleep(0))
[[gnu::always_inline]] inline void yield() { detail::yield(); }

// Runs f(args...) in a new task after `delay`. If the task is killed before that, f is never
// called. (gevent.spawn_later)
template <class Rep, class Period, class F, class... A>
  requires std::invocable<std::decay_t<F>, std::decay_t<A>...>
auto spawn_later(std::chrono::duration<Rep, Period> delay, F&& f, A&&... args) {
  return spawn(
      [begin = detail::later(delay),
       call = std::decay_t<F>(std::forward<F>(f))](std::decay_t<A>... bound) mutable {
        detail::sleep_until(begin);
        return std::invoke(std::move(call), std::move(bound)...);
      },
      std::forward<A>(args)...);
}

// Waits until all tasks of the range have ended. Does not throw what they threw. (gevent.joinall)
template <std::ranges::input_range Tasks>
void joinall(Tasks&& tasks) {
  for (auto&& t : tasks) t.join();
}
// The same, for at most `timeout`. Returns whether all have ended. (wait.hpp has a joinall() with
// more options.)
template <std::ranges::input_range Tasks, class Rep, class Period>
bool joinall(Tasks&& tasks, std::chrono::duration<Rep, Period> timeout) {
  clock::time_point end = detail::later(timeout);
  bool all = true;
  for (auto&& t : tasks) all &= t.join(std::max(end - clock::now(), clock::duration::zero()));
  return all;
}

// Kills all tasks of the range, then waits until all have ended; all of them get the exception
// before the first one unwinds. If the running task is among them, it is not waited for and gets
// the exception at the end of this call. (gevent.killall)
template <std::ranges::forward_range Tasks, class E = fiber_exit>
  requires(!detail::is_duration<E>)
void killall(Tasks&& tasks, const E& exception = {}) {
  for (auto&& t : tasks) t.request_kill(exception);
  for (auto&& t : tasks) {
    if (t.as_fiber() != current_fiber()) t.join();
  }
  detail::throw_if_interrupted();
}
// The same with fiber_exit, waiting for at most `timeout`. Returns whether all have ended.
template <std::ranges::forward_range Tasks, class Rep, class Period>
bool killall(Tasks&& tasks, std::chrono::duration<Rep, Period> timeout) {
  for (auto&& t : tasks) t.request_kill();
  return joinall(tasks, timeout);
}

}  // namespace tendril
