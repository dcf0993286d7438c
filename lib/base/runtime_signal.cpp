#include "base/runtime_signal.hpp"

#include <pthread.h>
#include <ucontext.h>

#include <atomic>
#include <new>

#include "base/futex_lock.hpp"
#include "base/sys.hpp"

namespace tendril::core::runtime_signal {

namespace {

using function = decltype(sys::signal_action::handler);

constinit futex_lock lock;
// for the tick, timers, stopping a helper, waking a hub, and calls on the kernel threads of hubs
constinit std::atomic<callback> callbacks[5] = {};
// The handler that was installed before ours (null: SIG_DFL), and the signals that it blocks.
constinit std::atomic<function> before{nullptr};
constinit std::atomic<std::uint64_t> before_blocks{0};

bool ignores(function f) noexcept {
  return reinterpret_cast<std::uintptr_t>(f) == reinterpret_cast<std::uintptr_t>(SIG_IGN);
}

// Handles the signal as if our handler were not installed.
void pass_on(siginfo_t* info, void* where) noexcept {
  function f = before.load(std::memory_order_acquire);
  if (ignores(f)) return;
  if (f) {
    std::uint64_t mask;
    __builtin_memcpy(&mask, &static_cast<ucontext_t*>(where)->uc_sigmask, sizeof mask);
    mask |= bit | before_blocks.load(std::memory_order_relaxed);
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
    return f(number, info, where);
  }
  // The default action ends the process. Do not take it for one of our own signals that arrives
  // after its receiver has stopped expecting it.
  if (info->si_code == SI_TKILL && info->si_pid == sys::getpid()) return;
  sys::signal_action none;
  sys::sigaction(number, &none, nullptr);
  std::uint64_t mask = bit;
  sys::call(SYS_rt_sigprocmask, SIG_UNBLOCK, &mask, 0, 8);
  sys::call(SYS_tgkill, sys::getpid(), sys::gettid(), number);
}

// The callbacks preserve errno, as any handler must.
void on_signal(int, siginfo_t* info, void* where) noexcept {
  for (auto& t : callbacks) {
    callback takes = t.load(std::memory_order_acquire);
    if (takes && takes(info, where)) return;
  }
  pass_on(info, where);
}

void add(callback t) noexcept {
  for (auto& slot : callbacks) {
    callback nobody = nullptr;
    if (slot.compare_exchange_strong(nobody, t) || nobody == t) return;
  }
  sys::die("too many uses of the runtime's signal");
}

}  // namespace

bool install(callback t) noexcept {
  add(t);
  sys::signal_action now;
  if (sys::sigaction(number, nullptr, &now) < 0) return false;
  if (now.handler == on_signal) return true;
  futex_guard guard(lock);
  if (sys::sigaction(number, nullptr, &now) < 0) return false;
  if (now.handler == on_signal) return true;
  before_blocks.store(now.mask, std::memory_order_relaxed);
  before.store(now.handler, std::memory_order_release);
  sys::signal_action ours(on_signal, SA_RESTART | SA_ONSTACK);
  ours.mask = ~0ULL;
  return sys::sigaction(number, &ours, nullptr) == 0;
}

void after_fork() noexcept { new (&lock) futex_lock; }

}  // namespace tendril::core::runtime_signal
