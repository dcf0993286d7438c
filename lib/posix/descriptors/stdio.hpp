// The stdio functions that the shim takes over: the C library's own, which may wait inside for a
// stream's descriptor or for its lock, made to let other fibers run meanwhile. stdio.cpp says how.
#pragma once

#include <tendril/posix.hpp>

#include "libc/types.hpp"

namespace tendril::posix {

#define CALL(result, name, parameters, arguments)
#define ALIAS(result, name, target, parameters, arguments)
#define ODD(result, name, parameters)
#define STREAM(result, name, parameters, arguments, stream) TENDRIL_API result name parameters;
#define UNLOCKED(result, name, parameters, arguments, stream) TENDRIL_API result name parameters;
#include "libc/calls.def"
#undef CALL
#undef ALIAS
#undef ODD

TENDRIL_API int fflush(FILE* f);
TENDRIL_API int fflush_unlocked(FILE* f);
TENDRIL_API int vdprintf(int fd, const char* format, va_list rest);
TENDRIL_API int __vdprintf_chk(int fd, int flag, const char* format, va_list rest);

// Looks at what the C library's streams are like; what asks for it first does, too.
void look_at_streams() noexcept;
// Before the C library closes or reopens f: waits for its lock, and writes what there is to write.
// False, with errno: an error, and what could not be written is forgotten, so that closing does not
// try again.
bool ready_to_close(FILE* f) noexcept;
// Whether a thread has the stream's lock, be it the running one.
bool is_locked(FILE* f) noexcept;
// The running thread ends, perhaps by a cancellation within a stdio function.
void leave_streams() noexcept;

// In a forked child nobody waits for a lock.
void streams_after_fork() noexcept;

}  // namespace tendril::posix
