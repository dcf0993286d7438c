// The stdio functions that the shim interposes: the C library's own, which may wait for a stream's
// descriptor or lock, but which let other fibers run meanwhile. stdio.cpp explains how.
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

// Examines the C library's streams; otherwise the first function that needs them does it.
void replace_stream_functions() noexcept;
// To be called before the C library closes or reopens f: waits for its lock, and writes its buffer.
// False, with errno: an error; the unwritten data is dropped, so that closing does not try again.
bool ready_to_close(FILE* f) noexcept;
// Whether some thread has the stream's lock, possibly the running one.
bool is_locked(FILE* f) noexcept;
// To be called when the running thread ends, possibly by cancellation within a stdio function.
void leave_streams() noexcept;

// In a forked child nobody waits for a lock.
void streams_after_fork() noexcept;

}  // namespace tendril::posix
