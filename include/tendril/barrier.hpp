// A barrier: a fixed number of fibers wait for each other, any number of times. (threading.Barrier,
// asyncio.Barrier)
//
// Any kernel thread may use it, and fibers of several kernel threads may share one. If a waiter
// gives up (a time-out, a kill) or a fiber calls abort(), the barrier breaks, because the remaining
// waiters could never be released. All waiters then, and all fibers that arrive later, get
// broken_barrier until reset().
#pragma once

#include "detail/cxx20.hpp"

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
  // A barrier for `parties` fibers, at least one; throws `error` for 0. The last fiber to arrive
  // calls `completion` before any waiter goes on. `completion` must not wait. If it throws, the
  // barrier breaks.
  explicit barrier(std::size_t parties, std::function<void()> completion = nullptr)
      : parties_(parties), completion_(std::move(completion)) {
    if (parties == 0) throw error("a barrier needs at least one party");
  }
  barrier(const barrier&) = delete;
  barrier& operator=(const barrier&) = delete;

  // The number of fibers that the barrier is for.
  std::size_t parties() const noexcept { return parties_; }
  // The number of fibers that wait now.
  std::size_t waiting() noexcept {
    detail::held h(lock_);
    return arrived_;
  }
  // Whether the barrier is broken.
  bool broken() noexcept {
    detail::held h(lock_);
    return broken_;
  }

  // Waits until all parties have arrived. Returns the caller's place in the order of arrival,
  // counted down: parties() - 1 for the first, 0 for the last. A cancellation point. Throws
  // broken_barrier, and `error` if more fibers arrive than the barrier is for. (threading:
  // Barrier.wait)
  std::size_t wait() { return arrive(detail::never); }
  // The same, for at most `timeout`: if it passes, the barrier breaks.
  template <class Rep, class Period>
  std::size_t wait(std::chrono::duration<Rep, Period> timeout) {
    return arrive(detail::later(timeout));
  }
  // wait() by its name in std::barrier.
  void arrive_and_wait() { wait(); }

  // Breaks the barrier: all waiters get broken_barrier. Never waits.
  void abort() noexcept {
    detail::held h(lock_);
    break_it();
  }
  // Makes the barrier usable again; all current waiters get broken_barrier. Never waits.
  void reset() noexcept {
    detail::held h(lock_);
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
      detail::held h(lock_);
      if (broken_) throw broken_barrier();
      if (arrived_ == parties_) throw error("barrier: more fibers arrived than it has parties");
      generation = generation_;
      place = parties_ - ++arrived_;
      if (place > 0) waiters_.push(w);
    }
    if (place == 0) return complete(generation);
    static constexpr auto what = detail::waits_for(core::wait_kind::event);
    // A fiber that gives up breaks the barrier, unless the last party has just arrived.
    struct given_up {
      barrier& b;
      party& w;
      std::uint64_t generation;
      ~given_up() {
        detail::held h(b.lock_);
        if (!w.is_granted() && b.generation_ == generation) b.break_it();
      }
    } guard{*this, w, generation};
    if (!detail::suspend(lock_, waiters_, w, t, what, [] {}) || w.failed) throw broken_barrier();
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
    detail::held h(lock_);
    if (generation_ != generation) throw broken_barrier();
    renew(false);
    return 0;
  }

  detail::biased_lock lock_;
  std::size_t parties_;
  std::function<void()> completion_;
  std::size_t arrived_ = 0;
  std::uint64_t generation_ = 0;
  bool broken_ = false;
  detail::wait_list waiters_;
};

}  // namespace tendril
