// The timers of one hub: which fiber waits until when.
//
// A wake costs a system call, a poll of everything and a cold cache; with many sleepers it is much
// cheaper to wake all those of a millisecond together. So a wait that is long compared to a
// millisecond may end that much late, unless a precise deadline is asked for. When the hub is awake
// anyway, it wakes all fibers that are due, in the order of their deadlines.
#pragma once

#include <initializer_list>

#include "scheduler/timer_heap.hpp"
#include "scheduler/timer_wheel.hpp"

namespace tendril::core {

class timers {
 public:
  bool empty() const noexcept { return exact_.empty() && coarse_.empty(); }
  // When to call run() next at the latest.
  nanoseconds next() const noexcept {
    nanoseconds e = exact_.next(), c = coarse_.next();
    return e < c ? e : c;
  }
  // Requires that the fiber has no timer yet. `now` may be somewhat old. Returns false if there is
  // no memory.
  bool start(fiber* f, nanoseconds at, bool precise, nanoseconds now) noexcept {
    if (!precise && at - now >= long_wait && coarse_.takes(at)) return coarse_.start(f, at, now);
    std::uint32_t number = exact_.start(f, at);
    f->timer = number | is_exact;
    return number;
  }
  // Requires that the fiber has a timer.
  [[gnu::noinline]] void cancel(fiber* f) noexcept {
    if (f->timer & is_exact) exact_.cancel(f->timer & ~is_exact);
    else coarse_.cancel(f->timer);
    f->timer = 0;
  }
  // Calls wake(fiber), which must not start or cancel timers, for all fibers that are due. It works
  // on several at a time, so that they are prefetched together.
  template <class Wake>
  void run(nanoseconds now, Wake wake) noexcept {
    coarse_.turn(now);
    constexpr int at_once = 16;
    fiber* due[at_once];
    int n;
    do {
      for (n = 0; n < at_once && (due[n] = pop(now)); n++) {
        const char* f =
            // what waking touches, and the payload behind the fiber
            reinterpret_cast<const char*>(due[n]);
        for (int line : {0, 1, 2, 5, 6}) __builtin_prefetch(f + line * 64);
      }
      for (int i = 0; i < n; i++) {
        due[i]->timer = 0;
        wake(due[i]);
      }
    } while (n == at_once);
  }
  void clear() noexcept {
    exact_.clear();
    coarse_.clear();
  }

 private:
  static constexpr nanoseconds long_wait = 8'000'000;
  static constexpr std::uint32_t is_exact = 1u << 31;

  // Takes the first fiber that is due; null: there is none.
  fiber* pop(nanoseconds now) noexcept {
    nanoseconds at = INT64_MAX;
    fiber* f = coarse_.first(now, at);
    if (exact_.next() <= now && exact_.next() < at) {
      f = exact_.first();
      exact_.pop();
    } else if (f) {
      coarse_.pop();
    }
    return f;
  }

  timer_heap exact_;
  timer_wheel coarse_;
};

}  // namespace tendril::core
