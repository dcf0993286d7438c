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

}  // namespace tendril::posix
