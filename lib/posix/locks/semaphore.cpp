// sem_wait(3) and related calls, where threads are fibers.
//
// The semaphore is the program's object in the C library's format: a 64-bit word with the value in
// its low half and the number of waiters in its high half. Waits for a semaphore that processes
// share are done in the kernel.
#include <semaphore.h>

#include <bit>

#include "posix/common/futex.hpp"
#include "posix/common/kernel_futex.hpp"
#include "posix/locks/ownership.hpp"
#include "posix/threads/preempt.hpp"

namespace tendril::posix {

namespace {

struct semaphore {
  std::atomic<std::uint64_t> data;
  int shared;

  static semaphore& of(sem_t* s) noexcept { return *reinterpret_cast<semaphore*>(s); }
  std::atomic<std::uint32_t>& value() noexcept {
    return *reinterpret_cast<std::atomic<std::uint32_t>*>(this);
  }
  static constexpr std::uint64_t one_waiter = 1ULL << 32;

  // Decrements the value, or registers as a waiter.
  bool take_or_stay() noexcept {
    std::uint64_t d = data.load(std::memory_order_relaxed), then;
    do {
      then = std::uint32_t(d) == 0 ? d + one_waiter : d - 1;
    } while (
        !data.compare_exchange_weak(d, then, std::memory_order_seq_cst, std::memory_order_relaxed));
    return std::uint32_t(d) != 0;
  }
  // The same for a registered waiter, which is then no longer registered.
  bool take_and_leave() noexcept {
    std::uint64_t d = data.load(std::memory_order_relaxed);
    do {
      if (std::uint32_t(d) == 0) return false;
    } while (!data.compare_exchange_weak(d, d - one_waiter - 1, std::memory_order_acquire,
                                         std::memory_order_relaxed));
    return true;
  }
};
static_assert(sizeof(semaphore) <= sizeof(sem_t) && std::endian::native == std::endian::little);

bool foreign(sem_t* s) noexcept {
  if (!ours()) return true;
  if (!cooperative()) return semaphore::of(s).shared;
  return false;
}

// 0, or -errno.
int wait(semaphore& s, deadline until) noexcept {
  if (s.take_or_stay()) return 0;
  int r;
  do {
    if (s.shared) {
      r = kernel_futex::wait(&s.value(), 0, until, futex::ends::by_signal);
    } else {
      r = futex::wait(&s.value(), 0, until, futex::ends::by_signal);
    }
    if ((r >= 0 || r == -EAGAIN) && s.take_and_leave()) return 0;
  } while (r >= 0 || r == -EAGAIN);
  s.data.fetch_sub(semaphore::one_waiter, std::memory_order_relaxed);
  return r;
}

}  // namespace

int sem_wait(sem_t* s) {
  if (foreign(s)) return real.sem_wait(s);
  cancel_kernel_thread();
  return result<int>(wait(semaphore::of(s), deadline::never()));
}

int sem_clockwait(sem_t* s, clockid_t clock, const timespec* until) {
  if (foreign(s)) return real.sem_clockwait(s, clock, until);
  cancel_kernel_thread();
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) return result<int>(-EINVAL);
  semaphore& sem = semaphore::of(s);
  if (until->tv_nsec < 0 || until->tv_nsec >= 1'000'000'000) return result<int>(-EINVAL);
  return result<int>(wait(sem, futex::absolute(clock, *until)));
}

int sem_timedwait(sem_t* s, const timespec* until) {
  if (foreign(s)) return real.sem_timedwait(s, until);
  return posix::sem_clockwait(s, CLOCK_REALTIME, until);
}

int sem_post(sem_t* s) {
  semaphore& sem = semaphore::of(s);
  if (sem.shared || !ours()) return real.sem_post(s);
  std::uint64_t d = sem.data.load(std::memory_order_relaxed);
  do {
    if (std::uint32_t(d) == SEM_VALUE_MAX) return result<int>(-EOVERFLOW);
  } while (!sem.data.compare_exchange_weak(d, d + 1, std::memory_order_seq_cst,
                                           std::memory_order_relaxed));
  if (d >= semaphore::one_waiter) {
    futex::wake(&sem.value(), 1);
    give_way_if_due();
  }
  return 0;
}

}  // namespace tendril::posix
