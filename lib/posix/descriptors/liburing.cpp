// Waiting for completions of an io_uring. The ring's descriptor is readable when there are some,
// and each new one is an edge, so it is waited for like any other. A wait with a time-out of zero
// makes the kernel finish what has ended; whether there are any, its result reports, and how many,
// the queue's head and tail. Then the library's own functions find them without waiting.
#include "posix/descriptors/liburing.hpp"

#include <stdlib.h>
#include <string.h>

#include "events/io_ring.hpp"
#include "posix/descriptors/wait.hpp"
#include "posix/descriptors/wait_set.hpp"
#include "posix/signals/scoped_mask.hpp"
#include "posix/threads/thread.hpp"
#include "scheduler/closing.hpp"

// The parts of liburing's struct that we use: its beginning, which is part of the library's ABI.
struct io_uring {
  char submissions[104];
  unsigned* head;  // of the completions
  unsigned* tail;
  char more[72];
  unsigned flags;
  int ring_fd;
};

namespace tendril::posix {

namespace {

constexpr unsigned known_flags =
    IORING_ENTER_GETEVENTS | IORING_ENTER_SQ_WAKEUP | IORING_ENTER_SQ_WAIT | IORING_ENTER_EXT_ARG;

// Repeats a call that was interrupted by a signal that the program does not see, such as the tick.
template <class Call>
auto unless_handled(Call call) noexcept {
  for (;;) {
    auto r = call();
    if (r != -EINTR || interrupted(on_signal::always)) return r;
  }
}

constexpr long unknown = -ENOSYS;  // this ring can only be waited for in the kernel

// How many completions the program has not taken yet, from the ring's queue.
long available(const ::io_uring& ring) noexcept {
  unsigned tail = std::atomic_ref(*ring.tail).load(std::memory_order_acquire);
  return long(tail - std::atomic_ref(*ring.head).load(std::memory_order_relaxed));
}
// The same from /proc, if only the descriptor is known (`known` is null). `unknown`: cannot be
// read, or the kernel is older than 5.19.
long available(int ring, const ::io_uring* known) noexcept {
  if (known) return available(*known);
  char path[40] = "/proc/self/fdinfo/", text[4096];
  sys::number digits(ring);
  memcpy(path + strlen(path), digits.digits, std::size_t(digits.length));
  long fd = sys::call_if_allowed(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return unknown;
  long n = sys::call(SYS_read, fd, text, sizeof text - 1);
  sys::close(int(fd));
  text[n > 0 ? n : 0] = 0;
  const char* count = strstr(text, "\nCQEs:");
  if (!count) return unknown;
  return strtol(count + strlen("\nCQEs:"), nullptr, 10);
}

// 0, or -ETIME: there are fewer than n completions. -EINVAL: a kernel before 5.11, which cannot
// report that.
long look_for(int ring, const ::io_uring* known, unsigned n) noexcept {
  __kernel_timespec none{};
  core::wait_argument argument{};
  argument.time = reinterpret_cast<std::uintptr_t>(&none);
  long r = unless_handled([&] {
    return sys::call(SYS_io_uring_enter, ring, 0, n, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG,
                     &argument, sizeof argument);
  });
  // With a time-out, the kernel's result is 0 as soon as there is one.
  if (r != 0 || n == 1) return r;
  long there = available(ring, known);
  return there < 0 ? there : there < long(n) ? -ETIME : 0;
}

// Parks until there are n completions. 0, -ETIME, -EINTR, -ECANCELED; any other result: this ring
// can only be waited for in the kernel. As in the kernel, the result is 0 if the wait is ended when
// there are some.
long await(int ring, const ::io_uring* known, unsigned n, deadline until,
           const sigset_t* mask) noexcept {
  mask_while_waiting masked(mask);
  if (masked.error()) return masked.error();
  for (;;) {
    long r = look_for(ring, known, n);
    if (r != -ETIME) return r;
    int w = wait_for(ring, EPOLLIN, until, on_signal::always);
    if (w >= 0) continue;
    if (w != -ETIMEDOUT && w != -EINTR) return w;
    if (n > 1 && available(ring, known) > 0) return 0;
    return w == -EINTR ? w : -ETIME;
  }
}
bool ended(long r) noexcept { return r == -ETIME || r == -EINTR || r == -ECANCELED; }

deadline deadline_of(const __kernel_timespec* t) noexcept {
  timespec time{};
  if (t) time = {.tv_sec = t->tv_sec, .tv_nsec = t->tv_nsec};
  return time_from_now(t ? &time : nullptr);
}

// `call(time)` is the library's call, which submits, and returns a completion if there are n. If
// something was submitted, its count is the result.
template <class Call>
int submit_and_await(::io_uring* ring, unsigned n, __kernel_timespec* time, const sigset_t* mask,
                     Call call) noexcept {
  deadline until = deadline_of(time);
  __kernel_timespec none{};
  int submitted = unless_handled([&] { return call(&none); });
  if (submitted == 0 && (n == 1 || available(*ring) >= long(n))) return 0;
  if (submitted < 0 && submitted != -ETIME) return submitted;
  long r = await(ring->ring_fd, ring, n, until, mask);
  int found = ended(r) ? int(r) : unless_handled([&] { return call(r == 0 ? &none : time); });
  return submitted > 0 ? submitted : found;
}

}  // namespace

int __io_uring_get_cqe(::io_uring* ring, io_uring_cqe** cqe, unsigned submit, unsigned n,
                       sigset_t* mask) {
  no_cancellation_point guard;
  if (!n || !cooperative()) return real.__io_uring_get_cqe(ring, cqe, submit, n, mask);
  int r = real.__io_uring_get_cqe(ring, cqe, submit, 0, nullptr);
  if (r < 0 && r != -EAGAIN) return r;
  if (r == 0 && *cqe && n == 1) return 0;
  long w;
  // When a handler ends the wait while there are some, the library waits again.
  do w = await(ring->ring_fd, ring, n, deadline::never(), mask);
  while (w == 0 && available(*ring) < long(n));
  return ended(w) ? int(w) : real.__io_uring_get_cqe(ring, cqe, 0, n, mask);
}

int io_uring_submit_and_wait(::io_uring* ring, unsigned n) {
  no_cancellation_point guard;
  if (!n || !cooperative()) return real.io_uring_submit_and_wait(ring, n);
  int submitted = real.io_uring_submit_and_wait(ring, 0);
  if (submitted < 0) return submitted;
  long w = await(ring->ring_fd, ring, n, deadline::never(), nullptr);
  if (w < 0 && !ended(w)) w = real.io_uring_submit_and_wait(ring, n);
  return submitted > 0 ? submitted : int(w);
}

int io_uring_submit_and_wait_timeout(::io_uring* ring, io_uring_cqe** cqe, unsigned n,
                                     __kernel_timespec* time, sigset_t* mask) {
  no_cancellation_point guard;
  if (!n || !cooperative()) return real.io_uring_submit_and_wait_timeout(ring, cqe, n, time, mask);
  return submit_and_await(ring, n, time, mask, [&](__kernel_timespec* t) {
    return real.io_uring_submit_and_wait_timeout(ring, cqe, n, t, mask);
  });
}

int io_uring_wait_cqes(::io_uring* ring, io_uring_cqe** cqe, unsigned n, __kernel_timespec* time,
                       sigset_t* mask) {
  no_cancellation_point guard;
  if (!n || !cooperative()) return real.io_uring_wait_cqes(ring, cqe, n, time, mask);
  return submit_and_await(ring, n, time, mask, [&](__kernel_timespec* t) {
    return real.io_uring_wait_cqes(ring, cqe, n, t, mask);
  });
}

int io_uring_wait_cqe_timeout(::io_uring* ring, io_uring_cqe** cqe, __kernel_timespec* time) {
  return posix::io_uring_wait_cqes(ring, cqe, 1, time, nullptr);
}

long enter_uring(int ring, unsigned submit, unsigned n, unsigned flags, const void* argument,
                 std::size_t size) noexcept {
  no_cancellation_point guard;
  auto kernels = [&] {
    return sys::call(SYS_io_uring_enter, ring, submit, n, flags, argument, size);
  };
  if (!n || !(flags & IORING_ENTER_GETEVENTS) || (flags & ~known_flags) || !cooperative())
    return kernels();
  core::wait_argument wanted{};
  __kernel_timespec time{};
  if (!(flags & IORING_ENTER_EXT_ARG)) {
    wanted.mask = reinterpret_cast<std::uintptr_t>(argument);
    wanted.mask_size = std::uint32_t(size);
  } else {
    if (size != sizeof wanted || !sys::readable(argument, size)) return kernels();
    wanted = *static_cast<const core::wait_argument*>(argument);
    if (wanted.least_wait_us) return kernels();
    if (wanted.time) {
      const void* given = reinterpret_cast<const void*>(wanted.time);
      if (!sys::readable(given, sizeof time)) return kernels();
      __builtin_memcpy(&time, given, sizeof time);
    }
  }
  if (wanted.mask && wanted.mask_size != 8) return kernels();
  long submitted = 0;
  if (submit) {
    submitted = sys::call(SYS_io_uring_enter, ring, submit, 0,
                          flags & ~(IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG), 0, 0);
    if (submitted != long(submit)) return submitted;
  }
  submit = 0;
  long w = await(ring, nullptr, n, deadline_of(wanted.time ? &time : nullptr),
                 reinterpret_cast<const sigset_t*>(wanted.mask));
  if (w < 0 && !ended(w)) w = kernels();
  return submitted ? submitted : w;
}

// The library closes the descriptor by a system call of its own.
void io_uring_queue_exit(::io_uring* ring) {
  int fd = ring->ring_fd;
  core::forget_descriptor(fd);
  real.io_uring_queue_exit(ring);
  core::wake_closed_waiters(fd);
}

int io_uring_enter(unsigned ring, unsigned submit, unsigned n, unsigned flags, sigset_t* mask) {
  return posix::io_uring_enter2(ring, submit, n, flags, mask, 8);
}
int io_uring_enter2(unsigned ring, unsigned submit, unsigned n, unsigned flags, sigset_t* argument,
                    size_t size) {
  return int(enter_uring(int(ring), submit, n, flags, argument, size));
}

}  // namespace tendril::posix
