// The libc names that the shim interposes. Each forwards, in one line generated from the table, to
// the cooperative function in tendril::posix.
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <tendril/posix.hpp>
#include <tendril/pthread.hpp>

#include "posix/descriptors/liburing.hpp"
#include "posix/descriptors/stdio.hpp"
#include "posix/locks/static_guard.hpp"

// The functions have distinct C++ names, and the libc name is only their symbol. So they do not
// conflict with the declarations in the C library's headers, which have attributes of their own.
#define EXPORT extern "C" __attribute__((visibility("default")))

#define CALL(result, name, parameters, arguments)        \
  EXPORT result export_##name parameters __asm__(#name); \
  EXPORT result export_##name parameters { return tendril::posix::name arguments; }
#define ALIAS(result, name, target, parameters, arguments) \
  EXPORT result export_##name parameters __asm__(#name);   \
  EXPORT result export_##name parameters { return tendril::posix::target arguments; }
#define ODD(result, name, parameters)
#include "libc/calls.def"

// --- the C++ ABI's: local static variables ---

EXPORT int export_guard_acquire(tendril::posix::static_guard* g) __asm__("__cxa_guard_acquire");
EXPORT int export_guard_acquire(tendril::posix::static_guard* g) {
  return tendril::posix::cxa_guard_acquire(g);
}
EXPORT void export_guard_release(tendril::posix::static_guard* g) __asm__("__cxa_guard_release");
EXPORT void export_guard_release(tendril::posix::static_guard* g) {
  tendril::posix::cxa_guard_release(g);
}
EXPORT void export_guard_abort(tendril::posix::static_guard* g) __asm__("__cxa_guard_abort");
EXPORT void export_guard_abort(tendril::posix::static_guard* g) {
  tendril::posix::cxa_guard_abort(g);
}

// --- variadic functions: one optional argument, read and passed on even if the caller gave none
// ---

#define VARIADIC_FCNTL(name)                                         \
  EXPORT int export_##name(int fd, int command, ...) __asm__(#name); \
  EXPORT int export_##name(int fd, int command, ...) {               \
    va_list rest;                                                    \
    va_start(rest, command);                                         \
    void* argument = va_arg(rest, void*);                            \
    va_end(rest);                                                    \
    return tendril::posix::fcntl(fd, command, argument);             \
  }
VARIADIC_FCNTL(fcntl)
VARIADIC_FCNTL(fcntl64)
VARIADIC_FCNTL(__fcntl)

EXPORT int export_ioctl(int fd, unsigned long request, ...) __asm__("ioctl");
EXPORT int export_ioctl(int fd, unsigned long request, ...) {
  va_list rest;
  va_start(rest, request);
  void* argument = va_arg(rest, void*);
  va_end(rest);
  return tendril::posix::ioctl(fd, request, argument);
}

#define VARIADIC_OPEN(name)                                                  \
  EXPORT int export_##name(const char* path, int flags, ...) __asm__(#name); \
  EXPORT int export_##name(const char* path, int flags, ...) {               \
    va_list rest;                                                            \
    va_start(rest, flags);                                                   \
    mode_t mode = va_arg(rest, mode_t);                                      \
    va_end(rest);                                                            \
    return tendril::posix::open(path, flags, mode);                          \
  }
VARIADIC_OPEN(open)
VARIADIC_OPEN(open64)
VARIADIC_OPEN(__open)
VARIADIC_OPEN(__open64)

#define VARIADIC_OPENAT(name)                                                         \
  EXPORT int export_##name(int dir, const char* path, int flags, ...) __asm__(#name); \
  EXPORT int export_##name(int dir, const char* path, int flags, ...) {               \
    va_list rest;                                                                     \
    va_start(rest, flags);                                                            \
    mode_t mode = va_arg(rest, mode_t);                                               \
    va_end(rest);                                                                     \
    return tendril::posix::openat(dir, path, flags, mode);                            \
  }
VARIADIC_OPENAT(openat)
VARIADIC_OPENAT(openat64)

#define VARIADIC_CLONE(name)                                                                 \
  EXPORT int export_##name(int (*run)(void*), void* stack, int flags, void* argument,        \
                           ...) __asm__(#name);                                              \
  EXPORT int export_##name(int (*run)(void*), void* stack, int flags, void* argument, ...) { \
    va_list rest;                                                                            \
    va_start(rest, argument);                                                                \
    pid_t* parent_tid = va_arg(rest, pid_t*);                                                \
    void* tls = va_arg(rest, void*);                                                         \
    pid_t* child_tid = va_arg(rest, pid_t*);                                                 \
    va_end(rest);                                                                            \
    return tendril::posix::clone(run, stack, flags, argument, parent_tid, tls, child_tid);   \
  }
VARIADIC_CLONE(clone)
VARIADIC_CLONE(__clone)

// --- syscall: six arguments, read and passed on even if the caller gave fewer ---

EXPORT long export_syscall(long number, ...) __asm__("syscall");
EXPORT long export_syscall(long number, ...) {
  va_list rest;
  va_start(rest, number);
  long a[6];
  for (long& each : a) each = va_arg(rest, long);
  va_end(rest);
  return tendril::posix::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

// --- printf and scanf ---

#define VARIADIC_STREAM(name, parameters, last, call) \
  EXPORT int export_##name parameters __asm__(#name); \
  EXPORT int export_##name parameters {               \
    va_list rest;                                     \
    va_start(rest, last);                             \
    int r = tendril::posix::call;                     \
    va_end(rest);                                     \
    return r;                                         \
  }
VARIADIC_STREAM(printf, (const char* format, ...), format, vprintf(format, rest))
VARIADIC_STREAM(__printf_chk, (int flag, const char* format, ...), format,
                __vprintf_chk(flag, format, rest))
VARIADIC_STREAM(fprintf, (FILE * f, const char* format, ...), format, vfprintf(f, format, rest))
VARIADIC_STREAM(__fprintf_chk, (FILE * f, int flag, const char* format, ...), format,
                __vfprintf_chk(f, flag, format, rest))
VARIADIC_STREAM(dprintf, (int fd, const char* format, ...), format, vdprintf(fd, format, rest))
VARIADIC_STREAM(__dprintf_chk, (int fd, int flag, const char* format, ...), format,
                __vdprintf_chk(fd, flag, format, rest))
VARIADIC_STREAM(wprintf, (const wchar_t* format, ...), format, vwprintf(format, rest))
VARIADIC_STREAM(__wprintf_chk, (int flag, const wchar_t* format, ...), format,
                __vwprintf_chk(flag, format, rest))
VARIADIC_STREAM(fwprintf, (FILE * f, const wchar_t* format, ...), format,
                vfwprintf(f, format, rest))
VARIADIC_STREAM(__fwprintf_chk, (FILE * f, int flag, const wchar_t* format, ...), format,
                __vfwprintf_chk(f, flag, format, rest))
VARIADIC_STREAM(scanf, (const char* format, ...), format, vscanf(format, rest))
VARIADIC_STREAM(__isoc99_scanf, (const char* format, ...), format, __isoc99_vscanf(format, rest))
VARIADIC_STREAM(__isoc23_scanf, (const char* format, ...), format, __isoc23_vscanf(format, rest))
VARIADIC_STREAM(fscanf, (FILE * f, const char* format, ...), format, vfscanf(f, format, rest))
VARIADIC_STREAM(__isoc99_fscanf, (FILE * f, const char* format, ...), format,
                __isoc99_vfscanf(f, format, rest))
VARIADIC_STREAM(__isoc23_fscanf, (FILE * f, const char* format, ...), format,
                __isoc23_vfscanf(f, format, rest))
VARIADIC_STREAM(wscanf, (const wchar_t* format, ...), format, vwscanf(format, rest))
VARIADIC_STREAM(__isoc99_wscanf, (const wchar_t* format, ...), format,
                __isoc99_vwscanf(format, rest))
VARIADIC_STREAM(__isoc23_wscanf, (const wchar_t* format, ...), format,
                __isoc23_vwscanf(format, rest))
VARIADIC_STREAM(fwscanf, (FILE * f, const wchar_t* format, ...), format, vfwscanf(f, format, rest))
VARIADIC_STREAM(__isoc99_fwscanf, (FILE * f, const wchar_t* format, ...), format,
                __isoc99_vfwscanf(f, format, rest))
VARIADIC_STREAM(__isoc23_fwscanf, (FILE * f, const wchar_t* format, ...), format,
                __isoc23_vfwscanf(f, format, rest))

EXPORT int export_prctl(int what, ...) __asm__("prctl");
EXPORT int export_prctl(int what, ...) {
  va_list rest;
  va_start(rest, what);
  unsigned long a[4];
  for (unsigned long& each : a) each = va_arg(rest, unsigned long);
  va_end(rest);
  return tendril::posix::prctl(what, a[0], a[1], a[2], a[3]);
}

// --- the functions that _FORTIFY_SOURCE calls: they get the size of the buffer, and end the process
// as the C library does if it is too small ---

extern "C" [[noreturn]] void __chk_fail();

#define CHECKED(result, name, target, parameters, fits, arguments) \
  EXPORT result export_##name parameters __asm__(#name);           \
  EXPORT result export_##name parameters {                         \
    if (!(fits)) __chk_fail();                                     \
    return tendril::posix::target arguments;                       \
  }
CHECKED(ssize_t, __read_chk, read, (int fd, void* buf, size_t n, size_t room), n <= room,
        (fd, buf, n))
CHECKED(ssize_t, __pread_chk, pread, (int fd, void* buf, size_t n, off_t at, size_t room),
        n <= room, (fd, buf, n, at))
CHECKED(ssize_t, __pread64_chk, pread, (int fd, void* buf, size_t n, off_t at, size_t room),
        n <= room, (fd, buf, n, at))
CHECKED(ssize_t, __recv_chk, recv, (int fd, void* buf, size_t n, size_t room, int flags), n <= room,
        (fd, buf, n, flags))
CHECKED(ssize_t, __recvfrom_chk, recvfrom,
        (int fd, void* buf, size_t n, size_t room, int flags, sockaddr* from, socklen_t* len),
        n <= room, (fd, buf, n, flags, from, len))
CHECKED(int, __poll_chk, poll, (pollfd * fds, nfds_t n, int timeout, size_t room),
        room / sizeof *fds >= n, (fds, n, timeout))
CHECKED(int, __ppoll_chk, ppoll,
        (pollfd * fds, nfds_t n, const timespec* timeout, const sigset_t* mask, size_t room),
        room / sizeof *fds >= n, (fds, n, timeout, mask))

// open(2) without a mode. If the flags require one, call the C library's function, which ends the
// process with a message.
#define WITHOUT_MODE(name, parameters, arguments, target)                                          \
  EXPORT int export_##name parameters __asm__(#name);                                              \
  EXPORT int export_##name parameters {                                                            \
    bool needs_mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;                       \
    if (needs_mode) return reinterpret_cast<int(*) parameters>(dlsym(RTLD_NEXT, #name)) arguments; \
    return tendril::posix::target arguments;                                                       \
  }
WITHOUT_MODE(__open_2, (const char* path, int flags), (path, flags), open)
WITHOUT_MODE(__open64_2, (const char* path, int flags), (path, flags), open)
WITHOUT_MODE(__openat_2, (int dir, const char* path, int flags), (dir, path, flags), openat)
WITHOUT_MODE(__openat64_2, (int dir, const char* path, int flags), (dir, path, flags), openat)
