// A barrier: a number of fibers wait for each other, again and again. (threading.Barrier,
// asyncio.Barrier)
//
// Fibers of several kernel threads may share one. If one of them gives up (a time-out, a kill) or
// somebody calls abort(), the others would wait in vain: the barrier breaks, and all who wait, and
// all who come, get broken_barrier until reset().
#pragma once

#include <cstddef>
#include <functional>

#include "detail/waiting.hpp"

namespace tendril {

class broken_barrier : public error {
 public:
  broken_barrier() : error("the barrier is broken") {}
};

class barrier {
 public:
  // For so many fibers, at least one. `completion` is called by the last that arrives, before
  // anybody goes on; it must not wait. If it throws, the barrier breaks.
  explicit barrier(std::size_t parties, std::function<void()> completion = nullptr)
      : parties_(parties), completion_(std::move(completion)) {
    if (parties == 0) throw error("a barrier is for at least one fiber");
  }
  barrier(const barrier&) = delete;
  barrier& operator=(const barrier&) = delete;

  std::size_t parties() const noexcept { return parties_; }
  // How many wait now.
  std::size_t waiting() noexcept {
    detail::held h(exclusion_);
    return arrived_;
  }
  bool broken() noexcept {
    detail::held h(exclusion_);
    return broken_;
  }

  // Waits until all have arrived. Returns the place in the order of arrival, the last one's being
  // 0. A cancellation point.
  std::size_t wait() { return arrive(detail::never); }
  // The same, for at most `timeout`: then the barrier breaks.
  template <class Rep, class Period>
  std::size_t wait(std::chrono::duration<Rep, Period> timeout) {
    return arrive(detail::later(timeout));
  }
  // The name of std::barrier.
  void arrive_and_wait() { wait(); }

  // Breaks it: all who wait get broken_barrier.
  void abort() noexcept {
    detail::held h(exclusion_);
    break_it();
  }
  // Makes it like new; all who wait get broken_barrier.
  void reset() noexcept {
    detail::held h(exclusion_);
    break_it();
    broken_ = false;
  }

 private:
  struct party : detail::waiter {
    bool failed = false;
  };

  void break_it() noexcept {
    broken_ = true;
    renew(true);
  }
  void renew(bool failed) noexcept {
    generation_++;
    arrived_ = 0;
    while (detail::waiter* w = waiters_.pop()) {
      static_cast<party*>(w)->failed = failed;
      detail::grant(*w);
    }
  }
  std::size_t arrive(clock::time_point t) {
    party w;
    w.who = core::fiber_current();
    std::uint64_t generation;
    std::size_t place;
    {
      detail::held h(exclusion_);
      if (broken_) throw broken_barrier();
      if (arrived_ == parties_) throw error("barrier: more fibers came than it is for");
      generation = generation_;
      place = parties_ - ++arrived_;
      if (place > 0) waiters_.push(w);
    }
    if (place == 0) return complete(generation);
    static constexpr auto what = detail::waits_for(core::wait_kind::event);
    // Whoever gives up breaks it, unless the last one has arrived just then.
    struct given_up {
      barrier& b;
      party& w;
      std::uint64_t generation;
      ~given_up() {
        detail::held h(b.exclusion_);
        if (!w.is_granted() && b.generation_ == generation) b.break_it();
      }
    } guard{*this, w, generation};
    if (!detail::suspend(exclusion_, waiters_, w, t, what, [] {}) || w.failed)
      throw broken_barrier();
    return place;
  }
  std::size_t complete(std::uint64_t generation) {
    if (completion_) {
      try {
        detail::no_waiting guard("the completion of a barrier");
        completion_();
      } catch (...) {
        abort();
        throw;
      }
    }
    detail::held h(exclusion_);
    if (generation_ != generation) throw broken_barrier();
    renew(false);
    return 0;
  }

  detail::exclusion exclusion_;
  std::size_t parties_;
  std::function<void()> completion_;
  std::size_t arrived_ = 0;
  std::uint64_t generation_ = 0;
  bool broken_ = false;
  detail::wait_list waiters_;
};

}  // namespace tendril
