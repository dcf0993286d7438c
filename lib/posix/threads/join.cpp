// pthread_join(3) and related calls, pthread_detach(3).
#include <algorithm>

#include "posix/common/futex.hpp"
#include "posix/threads/thread_memory.hpp"

namespace tendril::posix {

namespace {

// The common part of the join functions. `until` null: do not wait.
int join(pthread_t id, void** result, const deadline* until) noexcept {
  thread* t = thread_of(id);
  thread* self = this_thread;
  if (t == self) return EDEADLK;
  std::uint32_t known = t->life.load(std::memory_order_acquire);
  if (known & thread::joined) return ESRCH;
  if (known & thread::detached) return EINVAL;
  // The two threads wait for each other, unless one of them is being cancelled.
  if (self && self->joiner.load(std::memory_order_relaxed) == t &&
      !core::tls::ends_early(t->storage.pointer) && !cancel_due()) {
    return EDEADLK;
  }
  thread* nobody = nullptr;
  thread* me = self ? self : &main_thread;
  if (!t->joiner.compare_exchange_strong(nobody, me)) return EINVAL;
  for (;;) {
    std::uint32_t life = t->life.load(std::memory_order_acquire);
    if (life & thread::ended) break;
    int r = until ? futex::wait(&t->life, life, *until, futex::ends::by_cancel) : -EBUSY;
    if (r == 0 || r == -EAGAIN) continue;
    t->joiner = nullptr;
    if (r == -ECANCELED) act_on_cancel();
    return -r;
  }
  if (result) *result = t->result;
  recycle(t);
  tidy_up();
  return 0;
}

// Only the C library knows when a kernel thread ends, so poll for it while others run.
int join_kernel_thread(pthread_t id, void** result, deadline until) noexcept {
  core::wait_info what;
  what.wakeable_by_system = what.interruptible = true;
  for (core::nanoseconds pause = 100'000;; pause = pause < 10'000'000 ? pause * 2 : pause) {
    int r = real.pthread_tryjoin_np(id, result);
    core::nanoseconds t = core::now();
    if (r != EBUSY) return r;
    if (until.passed(t)) return ETIMEDOUT;
    if (wait_parked(what, deadline{std::min(until.at, t + pause)}, on_signal::restart) ==
        -ECANCELED)
      act_on_cancel();
  }
}

}  // namespace

int pthread_join(pthread_t id, void** result) {
  if (!thread_of(id)) {
    if (!cooperative()) return real.pthread_join(id, result);
    return join_kernel_thread(id, result, deadline::never());
  }
  if (cancel_due()) act_on_cancel();
  deadline never = deadline::never();
  return join(id, result, &never);
}

int pthread_tryjoin_np(pthread_t id, void** result) {
  if (!thread_of(id)) return real.pthread_tryjoin_np(id, result);
  return join(id, result, nullptr);
}

int pthread_clockjoin_np(pthread_t id, void** result, clockid_t clock, const timespec* until) {
  if (!thread_of(id) && !cooperative()) return real.pthread_clockjoin_np(id, result, clock, until);
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) return EINVAL;
  if (until && (until->tv_nsec < 0 || until->tv_nsec >= 1'000'000'000)) return EINVAL;
  if (cancel_due()) act_on_cancel();
  deadline d = until ? futex::absolute(clock, *until) : deadline::never();
  return thread_of(id) ? join(id, result, &d) : join_kernel_thread(id, result, d);
}

int pthread_timedjoin_np(pthread_t id, void** result, const timespec* until) {
  return posix::pthread_clockjoin_np(id, result, CLOCK_REALTIME, until);
}

int pthread_detach(pthread_t id) {
  thread* t = thread_of(id);
  if (!t) return real.pthread_detach(id);
  std::uint32_t life = t->life.load(std::memory_order_relaxed);
  do {
    if (life & thread::joined) return ESRCH;
    if (life & thread::detached) return EINVAL;
  } while (
      !t->life.compare_exchange_weak(life, life | thread::detached, std::memory_order_acq_rel));
  if (life & thread::ended) recycle(t), tidy_up();
  return 0;
}

}  // namespace tendril::posix
