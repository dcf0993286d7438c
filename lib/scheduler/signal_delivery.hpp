// Signals on their way to a thread: which thread takes one that came for the process, and the queue
// of those that have to wait until their thread can run the handler, or lets it through.
//
// A signal that waits is kept here as it came. Its thread sends it to itself once more when its
// time has come, and so the kernel makes the frame, with the mask, the stack and the flags that the
// program asked for.
#pragma once

#include <signal.h>

#include <atomic>
#include <cstdint>

#include "thread/tls.hpp"

namespace tendril::core {

struct pending_signal {
  std::atomic<bool> used{false};
  bool lent = false;  // to the kernel, see posix/signals/signalfd_loan.hpp
  int signal = 0;
  pending_signal* next = nullptr;
  thread_storage* target = nullptr;  // null: the process
  // Where the timer that sent it wants its overruns when it is handled; null: nowhere.
  std::atomic<int>* overruns = nullptr;
  siginfo_t info;
};

// Null: too many are pending. Any thread, async-signal-safe.
pending_signal* make_pending(int signal, const siginfo_t& info, thread_storage* target,
                             std::atomic<int>* overruns = nullptr) noexcept;
void drop_pending(pending_signal* p) noexcept;

inline std::uint64_t signal_bit(int signal) noexcept { return 1ULL << (signal - 1); }
inline std::uint64_t mask_of(const sigset_t& s) noexcept {
  std::uint64_t m;
  __builtin_memcpy(&m, &s, sizeof m);
  return m;
}

}  // namespace tendril::core
