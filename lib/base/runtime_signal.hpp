// The one signal that the runtime sends to kernel threads of its own process: number 32, which the
// C library keeps from programs (sigaction(3) and sigaddset(3) refuse it, sigfillset(3) leaves it
// out), so that no number of theirs is taken. Debuggers pass it on without stopping. The C library
// sends it itself, to cancel threads of the kernel's, and installs its handler for that with the
// first pthread_cancel(3): what is not ours goes to the handler that stood there before.
#pragma once

#include <signal.h>

#include <cstdint>

namespace tendril::core::runtime_signal {

inline constexpr int number = 32;
inline constexpr std::uint64_t bit = 1ULL << (number - 1);

// Called when the signal has come to the running kernel thread. False: it is none that this part of
// the runtime sends. Async-signal-safe; leaves errno as it was.
using callback = bool (*)(siginfo_t* info, void* where) noexcept;

// Makes sure that our handler is installed, with SA_RESTART and SA_ONSTACK and all signals blocked,
// and that it asks `t`. False: the system refuses. Cheap enough for each signal that is sent: the C
// library may have installed its own meanwhile. Any thread.
bool install(callback t) noexcept;

void after_fork() noexcept;

}  // namespace tendril::core::runtime_signal
