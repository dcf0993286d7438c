#include "base/runtime_signal.hpp"

#include <pthread.h>

#include <new>

namespace tendril::core {

namespace {

constinit futex_lock lock;

}  // namespace

int own_signal::choose() noexcept {
  static std::atomic<bool> registered{false};
  if (!registered.exchange(true)) pthread_atfork(nullptr, nullptr, [] { new (&lock) futex_lock; });
  futex_guard guard(lock);
  if (int known = number()) {
    // Taken away meanwhile: chosen anew.
    sys::signal_action now;
    if (sys::sigaction(known, nullptr, &now) == 0 && now.handler == handler_) return known;
  }
  for (int s = 64; s > 40; s--) {
    sys::signal_action now;
    if (sys::sigaction(s, nullptr, &now) < 0 || (now.handler && now.handler != handler_)) continue;
    sys::signal_action ours(handler_, flags_);
    if (sys::sigaction(s, &ours, nullptr) < 0) continue;
    chosen_.store(s, std::memory_order_relaxed);
    return s;
  }
  return 0;
}

}  // namespace tendril::core
