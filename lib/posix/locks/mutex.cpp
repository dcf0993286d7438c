// pthread_mutex_lock(3) and related calls, where threads are fibers.
//
// The mutex is the program's object in the C library's format: the word __lock is 0 (free), 1
// (held), 2 (held, and perhaps waited for); the owner; the count of a recursive mutex. So processes
// without Tendril can use the mutexes that they share with us; waits for these are done in the
// kernel. Robust mutexes are in robust.cpp.
#include <limits.h>

#include "posix/common/backoff.hpp"
#include "posix/common/kernel_futex.hpp"
#include "posix/locks/ownership.hpp"
#include "posix/locks/robust.hpp"
#include "posix/threads/preempt.hpp"
#include "posix/threads/thread.hpp"

namespace tendril::posix {

namespace {

enum kind_bits : int {
  type_bits = 3,  // PTHREAD_MUTEX_TIMED_NP (normal), _RECURSIVE_NP, _ERRORCHECK_NP, _ADAPTIVE_NP
  robust_bit = 16,
  inherit_bit = 32,
  protect_bit = 64,
  shared_bit = 128,
};

std::atomic<std::uint32_t>& word(pthread_mutex_t* m) noexcept {
  return *reinterpret_cast<std::atomic<std::uint32_t>*>(&m->__data.__lock);
}

bool foreign(const pthread_mutex_t* m) noexcept {
  int kernels = robust_bit;
  // The kernel can only let its own threads inherit priorities, and the other processes may have
  // such threads.
  if (m->__data.__kind & shared_bit) kernels |= inherit_bit | protect_bit;
  // Priorities matter only among kernel threads.
  if (!threads_are_fibers.load(std::memory_order_relaxed)) kernels |= inherit_bit | protect_bit;
  return (m->__data.__kind & kernels) || !ours();
}

// Robust mutexes that inherit priorities are left to the kernel.
bool is_robust(const pthread_mutex_t* m) noexcept {
  return (m->__data.__kind & (robust_bit | inherit_bit)) == robust_bit && robust::here();
}

int type_of(const pthread_mutex_t* m) noexcept { return m->__data.__kind & type_bits; }
bool has_owner(int type) noexcept {
  return type == PTHREAD_MUTEX_RECURSIVE_NP || type == PTHREAD_MUTEX_ERRORCHECK_NP;
}

// The word of a free mutex: zero, or its priority ceiling.
std::uint32_t free_word(pthread_mutex_t* m) noexcept {
  constexpr std::uint32_t ceiling = 0xfff80000;
  return m->__data.__kind & protect_bit ? word(m).load(std::memory_order_relaxed) & ceiling : 0;
}

// Whether the running thread's priority lets it have a mutex with a ceiling: 0, or an error number.
int allowed(pthread_mutex_t* m) noexcept {
  if (!(m->__data.__kind & protect_bit)) return 0;
  int policy, priority;
  own_scheduling(policy, priority);
  return (policy == SCHED_FIFO || policy == SCHED_RR) &&
                 std::uint32_t(priority) <= free_word(m) >> 19
             ? 0
             : EINVAL;
}

bool take_free(std::atomic<std::uint32_t>& w, std::uint32_t free = 0) noexcept {
  std::uint32_t expected = free;
  arch::space_locked();
  return w.compare_exchange_strong(expected, free | 1, std::memory_order_acquire,
                                   std::memory_order_relaxed);
}

bool is_shared(const pthread_mutex_t* m) noexcept { return m->__data.__kind & shared_bit; }

// Unlocks it. Returns whether somebody may wait for it.
bool set_free(std::atomic<std::uint32_t>& w, std::uint32_t free = 0) noexcept {
  arch::space_locked();
  return w.exchange(free, std::memory_order_release) == (free | 2);
}

// 0, or -ETIMEDOUT.
int wait_and_take(std::atomic<std::uint32_t>& w, deadline until, std::uint32_t free = 0,
                  bool shared = false) noexcept {
  while (w.exchange(free | 2, std::memory_order_acquire) != free) {
    int r = shared ? kernel_futex::wait(&w, free | 2, until, futex::ends::by_wake)
                   : futex::wait(&w, free | 2, until, futex::ends::by_wake);
    if (r == -ETIMEDOUT) return r;
    if (r == -ECANCELED) {
      check_may_wait();
      act_on_cancel();
    }
  }
  return 0;
}

// Checks whether the running thread already holds the mutex. 0: no. 1: yes, it is recursive, and
// was locked once more. Otherwise a negative error number.
[[gnu::always_inline]] inline int again(pthread_mutex_t* m, int type, bool only_tries) noexcept {
  if (m->__data.__owner != lock_owner()) [[likely]]
    return 0;
  if (type == PTHREAD_MUTEX_ERRORCHECK_NP) return only_tries ? -EBUSY : -EDEADLK;
  if (m->__data.__count + 1 == 0) return -EAGAIN;
  m->__data.__count++;
  return 1;
}

void now_mine(pthread_mutex_t* m) noexcept {
  m->__data.__owner = lock_owner();
  m->__data.__count = 1;  // used for recursive mutexes only
}

// Locks the mutex, waiting until `clock` reaches `until` (null: forever). 0, or an error number.
int lock(pthread_mutex_t* m, clockid_t clock, const timespec* until) noexcept {
  int type = type_of(m);
  bool owned = has_owner(type);
  if (owned) {
    if (int r = again(m, type, false)) return r == 1 ? 0 : -r;
  }
  std::atomic<std::uint32_t>& w = word(m);
  if (int r = allowed(m)) return r;
  std::uint32_t free = free_word(m);
  if (!take_free(w, free)) {
    deadline d = deadline::never();
    if (until) {
      if (until->tv_nsec < 0 || until->tv_nsec >= 1'000'000'000) return EINVAL;
      if (until->tv_sec < 0) return ETIMEDOUT;
      d = futex::absolute(clock, *until);
    }
    if (wait_and_take(w, d, free, is_shared(m)) < 0) return ETIMEDOUT;
  }
  if (owned) now_mine(m);
  return 0;
}

// Locks a mutex of the C library's, which would wait in the kernel: a fiber polls it instead.
template <class Lock>
int lock_foreign(pthread_mutex_t* m, deadline until, Lock blocking) noexcept {
  if (!ours() || !may_wait()) return blocking();
  // A value of the owner field. Trying to lock such a mutex would leave it locked.
  constexpr int not_recoverable = INT_MAX - 1;
  int r;
  bool done = retry_until(until, m, [&] {
    r = m->__data.__owner == not_recoverable ? EBUSY : real.pthread_mutex_trylock(m);
    return r != EBUSY || m->__data.__owner == lock_owner() || m->__data.__owner == not_recoverable;
  });
  if (!done) return ETIMEDOUT;
  // The blocking call returns at once: the caller holds the mutex, or it is not recoverable.
  return r == EBUSY ? blocking() : r;
}

int lock_foreign_until(pthread_mutex_t* m, clockid_t clock, const timespec* until) noexcept {
  auto blocking = [&] { return real.pthread_mutex_clocklock(m, clock, until); };
  if (until->tv_nsec < 0 || until->tv_nsec >= 1'000'000'000) return blocking();
  if (is_robust(m)) return robust::lock(m, futex::absolute(clock, *until), false);
  return lock_foreign(m, futex::absolute(clock, *until), blocking);
}

}  // namespace

namespace {

// Rare cases, not inlined: the common case saves no registers for them.
__attribute__((noinline, cold)) int lock_contended(std::atomic<std::uint32_t>& w) noexcept {
  return wait_and_take(w, deadline::never());
}

__attribute__((noinline)) int lock_other(pthread_mutex_t* m) noexcept {
  if (is_robust(m)) return robust::lock(m, deadline::never(), false);
  if (foreign(m))
    return lock_foreign(m, deadline::never(), [m] { return real.pthread_mutex_lock(m); });
  if (m->__data.__kind != PTHREAD_MUTEX_RECURSIVE_NP) return lock(m, CLOCK_MONOTONIC, nullptr);
  if (int r = again(m, PTHREAD_MUTEX_RECURSIVE_NP, false)) return r == 1 ? 0 : -r;
  if (!take_free(word(m))) lock_contended(word(m));
  now_mine(m);
  return 0;
}

__attribute__((noinline, cold)) int wake_next(std::atomic<std::uint32_t>& w,
                                              bool shared = false) noexcept {
  if (shared) kernel_futex::wake(&w, 1);
  else futex::wake(&w, 1);
  give_way_if_due();
  return 0;
}

__attribute__((noinline)) int unlock_other(pthread_mutex_t* m) noexcept {
  if (is_robust(m)) return robust::unlock(m);
  if (foreign(m)) {
    // The C library counts the owner, and those that wait with it for a condition, as users. We do
    // not count the owner.
    if (locks_were_ours.load(std::memory_order_relaxed) && m->__data.__nusers == 0 &&
        word(m).load(std::memory_order_relaxed) != free_word(m))
      m->__data.__nusers = 1;
    return real.pthread_mutex_unlock(m);
  }
  if (has_owner(type_of(m))) {
    if (m->__data.__owner != lock_owner() ||
        word(m).load(std::memory_order_relaxed) == free_word(m))
      return EPERM;
    if (type_of(m) == PTHREAD_MUTEX_RECURSIVE_NP && --m->__data.__count != 0) return 0;
    m->__data.__owner = 0;
  }
  return set_free(word(m), free_word(m)) ? wake_next(word(m), is_shared(m)) : 0;
}

}  // namespace

int pthread_mutex_lock(pthread_mutex_t* m) {
  if (m->__data.__kind != PTHREAD_MUTEX_TIMED_NP || !ours()) [[unlikely]] {
    return lock_other(m);
  }
  return take_free(word(m)) ? 0 : lock_contended(word(m));
}

int pthread_mutex_trylock(pthread_mutex_t* m) {
  if (is_robust(m)) return robust::lock(m, deadline::never(), true);
  if (foreign(m)) return real.pthread_mutex_trylock(m);
  int type = type_of(m);
  if (has_owner(type)) {
    if (int r = again(m, type, true)) return r == 1 ? 0 : -r;
  }
  if (int r = allowed(m)) return r;
  if (!take_free(word(m), free_word(m))) {
    // The caller may try again until it is free.
    let_others_run();
    return EBUSY;
  }
  if (has_owner(type)) now_mine(m);
  return 0;
}

int pthread_mutex_timedlock(pthread_mutex_t* m, const timespec* until) {
  if (foreign(m)) return lock_foreign_until(m, CLOCK_REALTIME, until);
  return lock(m, CLOCK_REALTIME, until);
}

int pthread_mutex_clocklock(pthread_mutex_t* m, clockid_t clock, const timespec* until) {
  if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC) return EINVAL;
  if (foreign(m)) return lock_foreign_until(m, clock, until);
  return lock(m, clock, until);
}

int pthread_mutex_unlock(pthread_mutex_t* m) {
  if (m->__data.__kind != PTHREAD_MUTEX_TIMED_NP || !ours()) [[unlikely]] {
    return unlock_other(m);
  }
  return set_free(word(m)) ? wake_next(word(m)) : 0;
}

// The kernel lets only its own threads inherit priorities; it does not know which fiber holds a
// mutex.
int pthread_mutex_init(pthread_mutex_t* m, const pthread_mutexattr_t* a) {
  int r = real.pthread_mutex_init(m, a);
  if (r == 0 && threads_are_fibers.load(std::memory_order_relaxed))
    m->__data.__kind &= ~inherit_bit;
  return r;
}

// The C library waits for the mutex in the kernel here, and does not wake waiters in our table.
int pthread_mutex_setprioceiling(pthread_mutex_t* m, int ceiling, int* old) {
  int r = real.pthread_mutex_setprioceiling(m, ceiling, old);
  if (r == 0 && !foreign(m) && !is_shared(m)) futex::wake(&word(m), INT32_MAX);
  return r;
}

int pthread_mutex_destroy(pthread_mutex_t* m) {
  if (!foreign(m) && word(m).load(std::memory_order_relaxed) != free_word(m)) return EBUSY;
  return real.pthread_mutex_destroy(m);
}

}  // namespace tendril::posix
