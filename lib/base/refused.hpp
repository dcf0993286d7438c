// Some system calls that the runtime makes are not those that the program asked for. A sandbox
// (seccomp) may not know them, and refuse them with any errno, with SIGSYS, or by ending the
// process. A refused call is recorded here and not made again; each caller has a simpler fallback.
//
// A filter that the program installs through the C library is evaluated here for each of these
// calls, so that the runtime makes none that the filter refuses. Other filters (inherited, or
// installed by an inline system call) are noticed at the first refusal: when a call fails with an
// unexpected error, the same call is made with arguments whose answer is known.
#pragma once

#include <atomic>

struct sock_fprog;

namespace tendril::sys {

inline constexpr long most_calls = 512;
extern constinit std::atomic<bool> refused_calls[most_calls];

// Whether the call must not be made any more.
inline bool is_refused(long number) noexcept {
  return refused_calls[number].load(std::memory_order_relaxed);
}
inline void note_refused(long number) noexcept {
  refused_calls[number].store(true, std::memory_order_relaxed);
}

// Call this after an error that may come from a sandbox. Finds out whether it does by a harmless
// call with that number, which must be in the table in refused.cpp, and records a refusal.
bool turns_out_refused(long number) noexcept;

// Call this when the program has installed a filter: records which calls of the table it refuses.
void look_at_filter(const sock_fprog& filter) noexcept;
// Whether the program has installed one: then no kernel thread should be started that the program
// did not ask for.
extern constinit std::atomic<bool> has_filter;
// Call this when the program has probed, with a null filter, whether it could install one. It will
// install one, and once there are threads it is too late to find out that the thread pointer can no
// longer be set.
void expect_filter() noexcept;

}  // namespace tendril::sys
