#include "own_signal.hpp"

#include <pthread.h>

#include <new>

namespace tendril::core {

namespace {

constinit futex_lock lock;

// struct sigaction as the kernel sees it.
struct kernel_action {
  own_signal::handler handler = nullptr;
  unsigned long flags = 0;
  void (*restorer)() noexcept = nullptr;
  std::uint64_t mask = 0;
};

}  // namespace

int own_signal::choose() noexcept {
  static std::atomic<bool> registered{false};
  if (!registered.exchange(true)) pthread_atfork(nullptr, nullptr, [] { new (&lock) futex_lock; });
  futex_guard guard(lock);
  if (int known = number()) {
    // Taken away meanwhile: chosen anew.
    kernel_action now;
    if (sys::call(SYS_rt_sigaction, known, 0, &now, 8) == 0 && now.handler == handler_) return known;
  }
  for (int s = 64; s > 40; s--) {
    kernel_action now, ours;
    if (sys::call(SYS_rt_sigaction, s, 0, &now, 8) < 0 || (now.handler && now.handler != handler_)) continue;
    ours.handler = handler_;
    ours.flags = SA_SIGINFO | flags_;
    if constexpr (arch::signal_needs_restorer) {
      ours.flags |= 0x04000000;  // SA_RESTORER
      ours.restorer = arch::signal_return;
    }
    if (sys::call(SYS_rt_sigaction, s, &ours, 0, 8) < 0) continue;
    chosen_.store(s, std::memory_order_relaxed);
    return s;
  }
  return 0;
}

}  // namespace tendril::core
