// io_uring(7): the calls of liburing that wait for completions, and the system call by which it
// waits.
#pragma once

#include "libc/types.hpp"
#include "posix/common/cooperate.hpp"

namespace tendril::posix {

// Their results are 0 or more, or -errno.
#define CALL(result, name, parameters, arguments)
#define ALIAS(result, name, target, parameters, arguments)
#define ODD(result, name, parameters)
#define OTHERS(result, name, parameters, arguments) TENDRIL_API result name parameters;
#include "libc/calls.def"
#undef CALL
#undef ALIAS
#undef ODD

// io_uring_enter(2) by number; returns -errno.
long enter_uring(int ring, unsigned submit, unsigned n, unsigned flags, const void* argument,
                 std::size_t size) noexcept;

}  // namespace tendril::posix
