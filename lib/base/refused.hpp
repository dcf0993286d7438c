// System calls that the runtime makes where the program made none, or another one: a sandbox
// (seccomp) may know nothing of them, and refuse them by any errno, by SIGSYS, or by ending the
// process. What is refused is remembered here and not made again; each caller has a plainer way.
//
// A filter that the program installs through the C library is run here over each of these calls, so
// that none is made that it refuses. Other filters (inherited, or installed by an inline system
// call) show at the first refusal: an error that the caller does not know is checked by the same
// call with arguments whose answer is known.
#pragma once

#include <atomic>

struct sock_fprog;

namespace tendril::sys {

inline constexpr long most_calls = 512;
extern constinit std::atomic<bool> refused_calls[most_calls];

// Whether the call is not to be made any more.
inline bool is_refused(long number) noexcept {
  return refused_calls[number].load(std::memory_order_relaxed);
}
inline void note_refused(long number) noexcept {
  refused_calls[number].store(true, std::memory_order_relaxed);
}

// After an error that may be a sandbox's: whether it is, found by a harmless call of that number,
// which must be one of the table in refused.cpp. Remembered.
bool turns_out_refused(long number) noexcept;

// The program has installed a filter: notes what it refuses of the calls in the table.
void look_at_filter(const sock_fprog& filter) noexcept;
// The program has asked, by one that is null, whether it could install filters. It will, and once
// there are threads it is too late to find out that the thread pointer cannot be set any more.
void expect_filter() noexcept;

}  // namespace tendril::sys
