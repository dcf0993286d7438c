// The libc names that the shim takes over: each forwards to the function of tendril::posix that is the cooperative
// form, in one line that comes from the table.
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <tendril/posix.hpp>

#include "../lib/posix/types.hpp"

// The functions have C++ names of their own and get the libc name as their symbol, so that the C library's
// headers, which declare the same names with attributes of their own, have no say in it.
#define EXPORT extern "C" __attribute__((visibility("default")))

#define CALL(result, name, parameters, arguments)       \
  EXPORT result export_##name parameters __asm__(#name); \
  EXPORT result export_##name parameters { return tendril::posix::name arguments; }
#define ALIAS(result, name, target, parameters, arguments) \
  EXPORT result export_##name parameters __asm__(#name);   \
  EXPORT result export_##name parameters { return tendril::posix::target arguments; }
#define ODD(result, name, parameters)
#include "../lib/posix/calls.def"

// --- variadic functions: one optional argument, passed on whether it is there or not ---

#define VARIADIC_FCNTL(name)                                        \
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

#define VARIADIC_OPEN(name)                                              \
  EXPORT int export_##name(const char* path, int flags, ...) __asm__(#name); \
  EXPORT int export_##name(const char* path, int flags, ...) {             \
    va_list rest;                                                          \
    va_start(rest, flags);                                                 \
    mode_t mode = va_arg(rest, mode_t);                                    \
    va_end(rest);                                                          \
    return tendril::posix::open(path, flags, mode);                        \
  }
VARIADIC_OPEN(open)
VARIADIC_OPEN(open64)
VARIADIC_OPEN(__open)
VARIADIC_OPEN(__open64)

#define VARIADIC_OPENAT(name)                                                       \
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

// --- what _FORTIFY_SOURCE compiles calls into: the size of the buffer comes along, and too little of it ends the
// process as the C library would ---

extern "C" [[noreturn]] void __chk_fail();

#define CHECKED(result, name, target, parameters, fits, arguments) \
  EXPORT result export_##name parameters __asm__(#name);           \
  EXPORT result export_##name parameters {                         \
    if (!(fits)) __chk_fail();                                     \
    return tendril::posix::target arguments;                       \
  }
CHECKED(ssize_t, __read_chk, read, (int fd, void* buf, size_t n, size_t room), n <= room, (fd, buf, n))
CHECKED(ssize_t, __pread_chk, pread, (int fd, void* buf, size_t n, off_t at, size_t room), n <= room, (fd, buf, n, at))
CHECKED(ssize_t, __pread64_chk, pread, (int fd, void* buf, size_t n, off_t at, size_t room), n <= room, (fd, buf, n, at))
CHECKED(ssize_t, __recv_chk, recv, (int fd, void* buf, size_t n, size_t room, int flags), n <= room, (fd, buf, n, flags))
CHECKED(ssize_t, __recvfrom_chk, recvfrom,
        (int fd, void* buf, size_t n, size_t room, int flags, sockaddr* from, socklen_t* len), n <= room,
        (fd, buf, n, flags, from, len))
CHECKED(int, __poll_chk, poll, (pollfd * fds, nfds_t n, int timeout, size_t room), room / sizeof *fds >= n, (fds, n, timeout))
CHECKED(int, __ppoll_chk, ppoll,
        (pollfd * fds, nfds_t n, const timespec* timeout, const sigset_t* mask, size_t room), room / sizeof *fds >= n,
        (fds, n, timeout, mask))

// open(2) without a mode although the flags ask for one.
EXPORT int export_open_2(const char* path, int flags) __asm__("__open_2");
EXPORT int export_open_2(const char* path, int flags) {
  if (flags & O_CREAT) __chk_fail();
  return tendril::posix::open(path, flags);
}
EXPORT int export_open64_2(const char* path, int flags) __asm__("__open64_2");
EXPORT int export_open64_2(const char* path, int flags) { return export_open_2(path, flags); }
EXPORT int export_openat_2(int dir, const char* path, int flags) __asm__("__openat_2");
EXPORT int export_openat_2(int dir, const char* path, int flags) {
  if (flags & O_CREAT) __chk_fail();
  return tendril::posix::openat(dir, path, flags);
}
EXPORT int export_openat64_2(int dir, const char* path, int flags) __asm__("__openat64_2");
EXPORT int export_openat64_2(int dir, const char* path, int flags) { return export_openat_2(dir, path, flags); }
