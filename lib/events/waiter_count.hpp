// How many fibers of one hub wait for one descriptor, for a kernel thread that closes it: it wakes
// only hubs that are concerned. See hub::note_closed().
#pragma once

#include <cstdint>

#include "base/atomic.hpp"

namespace tendril::core {

class waiter_count {
 public:
  // For the hub's thread.
  void one_more() noexcept { set(get() + 1); }
  void one_less() noexcept { set(get() - 1); }
  // Any thread: as far as it has seen what the hub's thread has done.
  bool any() const noexcept { return get() != 0; }

 private:
  std::uint32_t get() const noexcept { return count_.load(std::memory_order_relaxed); }
  void set(std::uint32_t n) noexcept { count_.store(n, std::memory_order_relaxed); }

  atomic<std::uint32_t> count_{0};
};

}  // namespace tendril::core
