// How a task's result is kept and waited for: the throwing half of lib/park.cpp. Not for programs.
#pragma once

#include <cxxabi.h>

#include <chrono>
#include <exception>
#include <limits>
#include <new>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>

#include "../error.hpp"
#include "core.hpp"
#include "exchange.hpp"

namespace tendril::detail {

template <class T>
inline constexpr bool is_duration = false;
template <class R, class P>
inline constexpr bool is_duration<std::chrono::duration<R, P>> = true;

// steady_clock is CLOCK_MONOTONIC in nanoseconds, as lib/ counts; max() is never.
inline std::int64_t deadline_of(std::chrono::steady_clock::time_point t) noexcept {
  return t.time_since_epoch().count();
}
// Now plus d, rounded up to a nanosecond; what is too long to express is never.
template <class Rep, class Period>
std::chrono::steady_clock::time_point later(std::chrono::duration<Rep, Period> d) {
  using clock = std::chrono::steady_clock;
  auto now = clock::now();
  std::chrono::duration<long double> wanted = d, room = clock::time_point::max() - now;
  if (!(wanted < room)) return clock::time_point::max();
  return now + std::chrono::ceil<clock::duration>(d);
}

// Throws what kill() or a time-out left for the running fiber.
inline void throw_if_interrupted() {
  core::fiber* self = core::fiber_current();
  if (auto* p = static_cast<std::exception_ptr*>(core::fiber_take_pending(self))) {
    std::exception_ptr e = std::move(*p);
    delete p;
    std::rethrow_exception(std::move(e));
  }
}

// What the end of a wait for `what` means for C++ code.
inline core::wake checked(core::wake w, const core::wait_info* what = nullptr) {
  if (w == core::wake::interrupted) throw_if_interrupted();
  if (w == core::wake::deadlock) {
    std::string report(64 * 1024, '\0');
    report.resize(core::wait_report(report.data(), report.size(), what));
    throw loop_exit("this wait would never end: no fiber can run, and nothing else is waited for\n" + report);
  }
  return w;
}

inline core::wake park(std::chrono::steady_clock::time_point deadline, const core::wait_info& what) {
  return checked(core::park(deadline_of(deadline), what), &what);
}

inline void interrupt(core::fiber* f, std::exception_ptr e) {
  delete static_cast<std::exception_ptr*>(core::interrupt(f, new std::exception_ptr(std::move(e))));
}

inline void sleep_until(std::chrono::steady_clock::time_point t) {
  using clock = std::chrono::steady_clock;
  if (t == clock::time_point::min()) {
    checked(core::yield());
    return;
  }
  core::wait_info what;
  what.kind = core::wait_kind::sleep;
  while (park(t, what) != core::wake::timeout) {
  }
}

// A fiber that waits for the end of a task; lives in its frame.
struct joiner {
  core::fiber* who;
  joiner* before = nullptr;
  joiner* next = nullptr;
};

// What all tasks keep, whatever their result.
class outcome_base {
 public:
  bool failed() const noexcept { return error_ && !exited_; }
  std::exception_ptr failure() const noexcept { return failed() ? error_ : nullptr; }
  void add(joiner& j) noexcept {
    j.before = last_joiner_;
    (last_joiner_ ? last_joiner_->next : joiners_) = &j;
    last_joiner_ = &j;
  }
  void remove(joiner& j) noexcept {
    (j.before ? j.before->next : joiners_) = j.next;
    (j.next ? j.next->before : last_joiner_) = j.before;
  }

 protected:
  void wake_joiners() noexcept {
    for (joiner* j = joiners_; j; j = j->next) core::unpark(j->who);
  }
  std::exception_ptr error_;
  bool exited_ = false;  // error_ is a fiber_exit: ended on request

 private:
  joiner* joiners_ = nullptr;
  joiner* last_joiner_ = nullptr;
};

template <class R>
class outcome : public outcome_base {
 public:
  // The result of an ended task, or its exception.
  std::add_lvalue_reference_t<R> get() {
    if (error_) std::rethrow_exception(error_);
    if (!value_) throw error("the task belongs to the parent process of a fork");
    if constexpr (!std::is_void_v<R>) return *value_;
  }

 protected:
  std::optional<std::conditional_t<std::is_void_v<R>, std::monostate, R>> value_;
};

template <class R, class F>
class task_payload : public outcome<R> {
 public:
  explicit task_payload(F&& f) : run_(std::move(f)) {}

  static core::message* body(core::fiber* self, core::message*) noexcept {
    auto& p = *static_cast<task_payload*>(core::fiber_payload(self));
    core::settle();
    p.call(self);
    p.run_.reset();
    if (void* late = core::fiber_take_pending(self)) delete static_cast<std::exception_ptr*>(late);
    p.wake_joiners();
    return nullptr;
  }
  static void destroy(void* payload) noexcept { static_cast<task_payload*>(payload)->~task_payload(); }
  static constexpr core::body ops{body, destroy};

 private:
  void call(core::fiber* self) noexcept {
    try {
      throw_if_interrupted();  // killed before it began
      if constexpr (std::is_void_v<R>) {
        (*run_)();
        this->value_.emplace();
      } else {
        this->value_.emplace((*run_)());
      }
    } catch (const fiber_exit&) {
      this->error_ = std::current_exception();
      this->exited_ = true;
    } catch (...) {
      this->error_ = std::current_exception();
      // A cooperative call failed with ECANCELED because of a kill, and the code threw an error of its own.
      if (auto* p = static_cast<std::exception_ptr*>(core::fiber_take_pending(self))) {
        this->error_ = std::move(*p);
        delete p;
        this->exited_ = is_exit(this->error_);
      }
    }
  }
  std::optional<F> run_;
};

// At the end of a kernel thread its unfinished tasks get a fiber_exit.
inline void reap_task(core::fiber* f) noexcept { interrupt(f, std::make_exception_ptr(fiber_exit{})); }

template <class R, class F>
core::fiber* make_task(std::size_t stack_size, const char* name, F&& run) {
  using payload = task_payload<R, F>;
  core::fiber_options o;
  o.stack_size = stack_size;
  o.name = name;
  o.kind = core::fiber_kind::task;
  o.eh_globals = abi::__cxa_get_globals();
  core::fiber* f = core::fiber_new(sizeof(payload), payload::ops, o);
  if (!f) throw std::bad_alloc();
  new (core::fiber_payload(f)) payload(std::move(run));
  core::set_reaper(reap_task);
  if (!core::start(f)) {
    core::fiber_unref(f);
    throw std::bad_alloc();
  }
  return f;
}

// Waits until f has ended, or the deadline; returns whether it has.
inline bool join(core::fiber* f, outcome_base& o, std::chrono::steady_clock::time_point deadline) {
  auto ended = [f] { return core::fiber_state(f) == core::fiber_status::finished; };
  if (ended()) return true;
  joiner j{core::fiber_current()};
  o.add(j);
  struct leave {
    outcome_base& o;
    joiner& j;
    ~leave() { o.remove(j); }
  } guard{o, j};
  core::wait_info what;
  what.kind = core::wait_kind::task;
  what.target = f;
  while (!ended()) {
    if (park(deadline, what) == core::wake::timeout) return ended();
  }
  return true;
}

}  // namespace tendril::detail
