// __cxa_guard_acquire and its family (C++ ABI): the initialisation of local static variables.
#pragma once

#include <tendril/detail/core.hpp>

#include <cstdint>

namespace tendril::posix {

// The variable's guard: 64 bits, of which the first byte says that it is initialised.
using static_guard = std::uint64_t;

// 1: the caller initialises the variable, and calls release or abort; 0: it is initialised. Waits
// while another fiber initialises it.
TENDRIL_API int cxa_guard_acquire(static_guard* g) noexcept;
TENDRIL_API void cxa_guard_release(static_guard* g) noexcept;
TENDRIL_API void cxa_guard_abort(static_guard* g) noexcept;

// In a forked child. What another thread was initialising during the fork stays as it was.
void static_guards_after_fork() noexcept;

}  // namespace tendril::posix
