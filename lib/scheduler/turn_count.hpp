// The turns of one hub: each time that it takes a fiber out of its run queue, that fiber has a
// turn.
#pragma once

#include <atomic>

namespace tendril::core {

class turn_count {
 public:
  // Begins a turn. Returns whether the hub polls before it, which it does in one turn of 32.
  [[gnu::always_inline]] bool begin() noexcept {
    unsigned next = count_ + 1;
    store(next);
    return polls(next);
  }
  // Whether the hub polls before the turn that has begun last.
  bool polls() const noexcept { return polls(count_); }
  // The hub will poll before the next turn.
  void poll_next() noexcept { store(count_ | 31); }
  // Charges the turn for a cooperative call that did not need to wait. Returns whether the turn's
  // budget is used up: a fiber whose descriptor always has data must let others run now and then.
  [[gnu::always_inline]] bool charge() noexcept {
    if (charged_ != count_) charged_ = count_, budget_ = full_budget;
    return --budget_ == 0;
  }
  void renew_budget() noexcept { budget_ = full_budget; }

  // For the watcher, on another kernel thread: the number of turns so far.
  unsigned so_far() const noexcept {
    return std::atomic_ref(const_cast<unsigned&>(count_)).load(std::memory_order_relaxed);
  }
  // Hides the turns since then from the watcher.
  void forget_since(unsigned then) noexcept { store(then); }

 private:
  static bool polls(unsigned turn) noexcept { return (turn & 31) == 0; }
  void store(unsigned n) noexcept { std::atomic_ref(count_).store(n, std::memory_order_relaxed); }

  static constexpr unsigned full_budget = 64;
  unsigned count_ = 0;
  unsigned budget_ = full_budget;
  unsigned charged_ = 0;  // the turn for which budget_ counts
};

}  // namespace tendril::core
