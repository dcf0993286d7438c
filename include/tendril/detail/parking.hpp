// How a wait ends for C++ code: the part of lib/scheduler/park.cpp that throws. Not for programs.
#pragma once

#include <chrono>
#include <exception>
#include <string>
#include <utility>

#include "../error.hpp"
#include "core.hpp"

namespace tendril {

using clock = std::chrono::steady_clock;

}  // namespace tendril

namespace tendril::detail {

template <class T>
inline constexpr bool is_duration = false;
template <class R, class P>
inline constexpr bool is_duration<std::chrono::duration<R, P>> = true;

inline constexpr clock::time_point never = clock::time_point::max();

// steady_clock is CLOCK_MONOTONIC in nanoseconds, which is lib/'s time; max() means never.
inline std::int64_t deadline_of(clock::time_point t) noexcept {
  return t.time_since_epoch().count();
}
// Now plus d, rounded up to a nanosecond; `never` if that cannot be represented.
template <class Rep, class Period>
clock::time_point later(std::chrono::duration<Rep, Period> d) {
  auto now = clock::now();
  std::chrono::duration<long double> wanted = d, room = never - now;
  if (!(wanted < room)) return never;
  if (wanted < -room) return clock::time_point::min();
  return now + std::chrono::ceil<clock::duration>(d);
}

// A time-out that is in force for a fiber (timeout.hpp). They nest: each points to the outer one
// and the inner one.
struct time_limit {
  std::int64_t at = INT64_MAX;
  std::uint64_t id = 0;
  std::exception_ptr error;  // null: a timeout_error
  bool fired = false;
  bool lasts = false;  // having passed, it ends every wait, not one
  time_limit* outer = nullptr;
  time_limit* inner = nullptr;
  bool in_force() const noexcept { return !fired || lasts; }
};

// Passes the earliest limit in force to lib/.
inline void set_limit(core::fiber* f) noexcept {
  core::fiber_extra& x = core::fiber_extras(f);
  x.limit = INT64_MAX;
  for (auto* l = static_cast<time_limit*>(x.limits); l; l = l->outer) {
    if (l->in_force() && l->at < x.limit) x.limit = l->at;
  }
  core::update_needs_slow_path(core::head(f));
}

// The outermost limit, from `l` on, that had passed at that time; null: none.
inline time_limit* outermost_passed(time_limit* l, std::int64_t time) noexcept {
  time_limit* found = nullptr;
  for (; l; l = l->outer) {
    if (l->in_force() && l->at <= time) found = l;
  }
  return found;
}

// Marks a limit of the running fiber as having thrown.
inline void set_fired(time_limit& l) noexcept {
  l.fired = true;
  set_limit(core::fiber_current());
}
[[noreturn]] inline void throw_limit(time_limit& l) {
  set_fired(l);
  if (l.error) std::rethrow_exception(l.error);
  throw timeout_error("timed out", l.id);
}

// Throws what kill() or a time-out has stored for the running fiber. A kill goes first, then the
// outermost time-out that has passed, since its exception leaves the scopes of the inner ones too.
inline void throw_if_interrupted(core::fiber* self = core::fiber_current()) {
  core::fiber_extra& x = core::fiber_extras(self);
  if (x.forbidden) throw error(std::string(x.forbidden) + " cannot wait");
  if (auto* p = static_cast<std::exception_ptr*>(core::fiber_take_pending(self))) {
    std::exception_ptr e = std::move(*p);
    delete p;
    std::rethrow_exception(std::move(e));
  }
  if (x.limit == INT64_MAX) return;
  std::int64_t now = core::now_ns();
  time_limit* expired = outermost_passed(static_cast<time_limit*>(x.limits), now);
  if (!expired) return;
  x.limit_ended_wait = now;
  throw_limit(*expired);
}

// Whether an exception is being thrown, so that a second one from a destructor would end the
// process.
inline bool unwinding() noexcept { return std::uncaught_exceptions() > 0; }

inline std::string wait_report(const core::wait_info* what) {
  std::string report(64 * 1024, '\0');
  report.resize(core::wait_report(report.data(), report.size(), what));
  return report;
}

// Throws what the end of a wait for `what` means for C++ code; otherwise returns it.
inline core::wake checked(core::wake w, const core::wait_info* what = nullptr) {
  if (w == core::wake::interrupted) throw_if_interrupted();
  if (w == core::wake::deadlock) {
    if (unwinding()) {
      core::fail(("a destructor waits while an exception unwinds fiber '" +
                  std::string(core::fiber_name(core::fiber_current())) +
                  "', and nothing can end that wait\n" + wait_report(what))
                     .c_str());
    }
    throw loop_exit(
        "this wait would never end: no fiber can run, and nothing else is waited for\n" +
        wait_report(what));
  }
  return w;
}

// Waits once; `self` is the running fiber. Functions that park or yield without a deadline are
// always inline: see core::arrival.
[[gnu::always_inline]] inline core::wake park_once(core::fiber* self, clock::time_point deadline,
                                                   const core::wait_info& what,
                                                   bool precise = false) noexcept {
  bool limited = deadline != never;
  core::switch_result a = limited ? core::park_until(deadline_of(deadline), what, precise, self)
                                  : core::park_until_unparked(what, self);
  return core::parked(core::head(self), a.context, a.from, limited);
}
// Handles an interrupted wait: in a destructor that runs because of an exception, throwing would
// end the process, so the wait goes on, and the kill or time-out takes effect at the next wait.
inline core::wake to_the_end(core::wake w, clock::time_point deadline, const core::wait_info& what,
                             bool precise = false) {
  if (w != core::wake::interrupted) [[likely]]
    return w;
  if (!unwinding() || core::fiber_extras(core::fiber_current()).forbidden) return w;
  core::wait_info uninterruptible = what;
  uninterruptible.uninterruptible = true;
  return core::park(deadline_of(deadline), uninterruptible, precise);
}
// Waits to the end, as to_the_end() says. park() then throws as checked() does.
[[gnu::always_inline]] inline core::wake park_raw(core::fiber* self, clock::time_point deadline,
                                                  const core::wait_info& what,
                                                  bool precise = false) {
  return to_the_end(park_once(self, deadline, what, precise), deadline, what, precise);
}
[[gnu::always_inline]] inline core::wake park(core::fiber* self, clock::time_point deadline,
                                              const core::wait_info& what, bool precise = false) {
  core::wake w = park_raw(self, deadline, what, precise);
  return w == core::wake::unparked ? w : checked(w, &what);
}

[[gnu::always_inline]] inline void yield() {
  core::fiber* self = core::fiber_current();
  core::switch_result a = core::give_way(self);
  core::wake w = core::gave_way(core::head(self), a.context, a.from);
  if (w == core::wake::interrupted &&
      (!unwinding() || core::fiber_extras(core::fiber_current()).forbidden))
    checked(w);
}

inline void interrupt(core::fiber* f, std::exception_ptr e) {
  delete static_cast<std::exception_ptr*>(core::interrupt(f, new std::exception_ptr(std::move(e))));
}

inline void sleep_until(clock::time_point t, bool precise = false) {
  if (t == clock::time_point::min()) return yield();
  static constexpr core::wait_info what{.kind = core::wait_kind::sleep};
  while (park(core::fiber_current(), t, what, precise) != core::wake::timeout) {}
}

// While an object lives, nothing interrupts the running fiber's waits. A kill or a time-out takes
// effect at the next wait after that.
class uninterrupted {
 public:
  [[nodiscard]] uninterrupted() noexcept { x_.shields++; }
  ~uninterrupted() { x_.shields--; }
  uninterrupted(const uninterrupted&) = delete;

 private:
  core::fiber_extra& x_ = core::fiber_extras(core::fiber_current());
};

// While an object lives, a wait of the running fiber throws an error that names `who`.
class no_waiting {
 public:
  [[nodiscard]] explicit no_waiting(const char* who) noexcept : before_(forbid(who)) {}
  ~no_waiting() { forbid(before_); }
  no_waiting(const no_waiting&) = delete;

 private:
  const char* forbid(const char* who) noexcept {
    const char* before = std::exchange(self_.extra.forbidden, who);
    core::update_needs_slow_path(self_);
    return before;
  }
  core::fiber_head& self_ = core::head(core::fiber_current());
  const char* before_;
};

}  // namespace tendril::detail
