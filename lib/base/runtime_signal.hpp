// A signal that the runtime sends to kernel threads of its own process: one of the last real-time signals that the
// program does not use.
#pragma once

#include <signal.h>

#include <atomic>

#include "base/futex_lock.hpp"

namespace tendril::core {

class own_signal {
 public:
  using handler = void (*)(int, siginfo_t*, void*) noexcept;
  // `flags`: SA_RESTART, SA_NODEFER.
  constexpr own_signal(handler h, unsigned long flags) noexcept : handler_(h), flags_(flags) {}

  // Its number, after making sure that its handler is installed; 0: the program handles them all. Any thread.
  int choose() noexcept;
  // The number last chosen; 0: none yet. Async-signal-safe.
  int number() const noexcept { return chosen_.load(std::memory_order_relaxed); }

 private:
  handler handler_;
  unsigned long flags_;
  std::atomic<int> chosen_{0};
};

}  // namespace tendril::core
