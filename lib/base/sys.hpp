// The system calls that the runtime makes for itself. They return -errno and never touch errno, so
// they can be made anywhere, and the shim, which interposes their libc namesakes, never sees them.
#pragma once

#include <linux/futex.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/arch/arch.hpp"
#include "base/refused.hpp"
#include "base/sanitize.hpp"

namespace tendril::sys {

template <class... A>
inline long call(long number, A... a) noexcept {
  return arch::system_call(number, (long)a...);
}

// For calls that only the runtime needs. Returns -EPERM without making the call where a known
// filter forbids it, since the filter might notify or end the program.
template <class... A>
inline long call_if_allowed(long number, A... a) noexcept {
  return is_refused(number) ? -1 /* EPERM */ : call(number, a...);
}

inline bool failed(long r) noexcept { return (unsigned long)r > -4096UL; }

// The vDSO's clock_gettime, which needs no system call for the clocks that tell the time of day.
using clock_source = int (*)(clockid_t, timespec*);
extern std::atomic<clock_source> clock_of_kernel;
inline int clock_gettime(clockid_t clock, timespec* t) noexcept {
  return clock_of_kernel.load(std::memory_order_relaxed)(clock, t);
}

inline int gettid() noexcept { return (int)call(SYS_gettid); }
inline int getpid() noexcept { return (int)call(SYS_getpid); }

#ifdef TENDRIL_TSAN
// Pages that one thread unmaps and another one maps are not shared between them: the kernel orders
// the two. TSan must be informed.
inline char pages;
inline void given_back() noexcept { __tsan_release(&pages); }
inline void got() noexcept { __tsan_acquire(&pages); }
#else
inline void given_back() noexcept {}
inline void got() noexcept {}
#endif

inline void* map(std::size_t size, int extra_flags = 0) noexcept {
  long p = call(SYS_mmap, 0, size, PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | extra_flags, -1, 0);
  got();
  return failed(p) ? nullptr : (void*)p;
}
inline void unmap(void* p, std::size_t size) noexcept {
  given_back();
  call(SYS_munmap, p, size);
}
inline void* remap(void* p, std::size_t old_size, std::size_t new_size) noexcept {
  given_back();
  long q = call(SYS_mremap, p, old_size, new_size, MREMAP_MAYMOVE);
  got();
  return failed(q) ? nullptr : (void*)q;
}
inline int advise(void* p, std::size_t size, int advice) noexcept {
  return is_refused(SYS_madvise) ? -1 /* EPERM */ : (int)call(SYS_madvise, p, size, advice);
}
inline int protect(void* p, std::size_t size, int prot) noexcept {
  return (int)call(SYS_mprotect, p, size, prot);
}

inline long read(int fd, void* p, std::size_t n) noexcept { return call(SYS_read, fd, p, n); }
inline long write(int fd, const void* p, std::size_t n) noexcept {
  return call(SYS_write, fd, p, n);
}
inline int close(int fd) noexcept { return (int)call(SYS_close, fd); }

// What is ready now: poll(2), or ppoll(2) with a mask, without waiting.
long poll_now(void* pollfds, unsigned long n, const void* mask = nullptr) noexcept;

inline int epoll_create() noexcept { return (int)call(SYS_epoll_create1, EPOLL_CLOEXEC); }
inline int epoll_ctl(int ep, int op, int fd, epoll_event* e) noexcept {
  return (int)call(SYS_epoll_ctl, ep, op, fd, e);
}
// Waits at most `timeout` (null: for ever), with that signal mask (null: unchanged). Kernels before
// 5.11 lack epoll_pwait2: there the time-out is rounded up to whole milliseconds.
int epoll_wait(int ep, epoll_event* e, int n, const timespec* timeout,
               const std::uint64_t* mask = nullptr) noexcept;
inline int eventfd() noexcept { return (int)call(SYS_eventfd2, 0, EFD_CLOEXEC | EFD_NONBLOCK); }

inline int futex_wait(const void* word, std::uint32_t expected,
                      const timespec* timeout = nullptr) noexcept {
  return (int)call(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, timeout, 0, 0);
}
inline int futex_wake(const void* word, int n) noexcept {
  return (int)call(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, 0, 0, 0);
}

// struct sigaction as the kernel sees it. A null handler is the default action.
struct signal_action {
  void (*handler)(int, siginfo_t*, void*) noexcept = nullptr;
  unsigned long flags = 0;
  void (*restorer)() noexcept = nullptr;
  std::uint64_t mask = 0;

  signal_action() noexcept = default;
  signal_action(decltype(handler) h, unsigned long more_flags) noexcept
      : handler(h), flags(SA_SIGINFO | more_flags) {
    if constexpr (arch::signal_needs_restorer) {
      flags |= 0x04000000;  // SA_RESTORER
      restorer = arch::signal_return;
    }
  }
};
inline int sigaction(int signal, const signal_action* set, signal_action* old) noexcept {
  return (int)call(SYS_rt_sigaction, signal, set, old, sizeof set->mask);
}

// Whether the program may read the n bytes at p, or the int. The probe reads a signal mask and then
// fails because of an invalid `how`, so it has no effect; one word of each page is enough.
inline bool readable(const void* p, std::size_t n) noexcept {
  constexpr std::uintptr_t word = 8, page = 4096;
  auto at = reinterpret_cast<std::uintptr_t>(p), end = at + n;
  for (; at < end; at = (at | (page - 1)) + 1) {
    if (call(SYS_rt_sigprocmask, -1, at & ~(word - 1), 0, word) == -14 /* EFAULT */) return false;
  }
  return end >= reinterpret_cast<std::uintptr_t>(p);
}
inline bool readable_int(const void* p) noexcept { return readable(p, sizeof(int)); }

// say() writes the pieces as one line on standard error; die() then ends the process with SIGABRT.
struct text {
  const char* p;
  std::size_t n;
  text(const char* s) noexcept : p(s), n(__builtin_strlen(s)) {}
  text(const char* s, std::size_t len) noexcept : p(s), n(len) {}
};
void say_line(const text* pieces, int count) noexcept;
[[noreturn]] void abort_now() noexcept;

template <class... T>
inline void say(T... pieces) noexcept {
  const text all[] = {"tendril: ", pieces..., "\n"};
  say_line(all, sizeof all / sizeof *all);
}
template <class... T>
[[noreturn]] inline void die(T... pieces) noexcept {
  say(pieces...);
  abort_now();
}

// A number as text, for say().
struct number {
  char digits[24];
  int length;
  explicit number(long v) noexcept {
    char* p = digits + sizeof digits;
    unsigned long u = v < 0 ? 0UL - (unsigned long)v : (unsigned long)v;
    do *--p = char('0' + u % 10);
    while (u /= 10);
    if (v < 0) *--p = '-';
    length = int(digits + sizeof digits - p);
    __builtin_memmove(digits, p, (std::size_t)length);
  }
  operator text() const noexcept { return {digits, (std::size_t)length}; }
};

}  // namespace tendril::sys
