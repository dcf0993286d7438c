// The one signal that the runtime sends to kernel threads of its own process: number 32, which the
// C library hides from programs (sigaction(3) and sigaddset(3) refuse it, sigfillset(3) leaves it
// out), so that no program uses it. Debuggers pass it on without stopping. The C library itself
// uses it to cancel kernel threads, and installs its handler at the first pthread_cancel(3):
// signals that are not ours go to the handler that was installed before ours.
#pragma once

#include <signal.h>

#include <cstdint>

namespace tendril::core::runtime_signal {

inline constexpr int number = 32;
inline constexpr std::uint64_t bit = 1ULL << (number - 1);

// Called when the signal has arrived on the running kernel thread. Returns false if this part of
// the runtime did not send it. Async-signal-safe; preserves errno.
using callback = bool (*)(siginfo_t* info, void* where) noexcept;

// Makes sure that our handler is installed, with SA_RESTART and SA_ONSTACK and all signals blocked,
// and that it calls `t`. Returns false if the system refuses. It is cheap enough to call before
// each signal that is sent, which is necessary because the C library may have installed its own
// handler since. Any thread.
bool install(callback t) noexcept;

void after_fork() noexcept;

}  // namespace tendril::core::runtime_signal
