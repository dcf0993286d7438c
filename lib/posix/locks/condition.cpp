// pthread_cond_wait(3) and related calls, where threads are fibers.
//
// The program's object contains the number of waiters. They wait in the futex table under its
// address, so signalling without waiters costs one load, and waiters are woken in order of arrival.
// The condition's clock is where pthread_cond_init stored it. Conditions that processes share have
// the C library's format (shared_condition.cpp).
#include "posix/common/backoff.hpp"
#include "posix/common/futex.hpp"
#include "posix/common/offload.hpp"
#include "posix/locks/ownership.hpp"
#include "posix/locks/shared_condition.hpp"

namespace tendril::posix {

namespace {

// In the place of the C library's __wseq, which is initially zero.
std::atomic<std::uint32_t>& waiting(pthread_cond_t* c) noexcept {
  return *reinterpret_cast<std::atomic<std::uint32_t>*>(c);
}
constexpr unsigned shared_bit = 1, monotonic_bit = 2;  // in __wrefs

bool foreign(const pthread_cond_t* c) noexcept {
  return (c->__data.__wrefs & shared_bit) || !ours();
}
clockid_t clock_of(const pthread_cond_t* c) noexcept {
  return c->__data.__wrefs & monotonic_bit ? CLOCK_MONOTONIC : CLOCK_REALTIME;
}

// Whether processes share the condition and we can wait for it ourselves. On a kernel thread
// without fibers, the C library does.
bool is_known(const pthread_cond_t* c) noexcept {
  return (c->__data.__wrefs & shared_bit) && ours() && core::current && in_hubs_process() &&
         shared_condition::known();
}

bool valid_time(const timespec* t) noexcept {
  return t->tv_nsec >= 0 && t->tv_nsec < 1'000'000'000;
}

// Waits for a shared condition if the C library's format is unknown, or the kernel cannot wait for
// several words at once.
//
// `wait` is the C library's call. A helper thread makes it with a mutex of ours instead of `m`.
// That mutex becomes free when the helper is registered as a waiter; only then does the caller,
// which holds `m`, unlock `m`.
template <class Wait>
int wait_foreign(pthread_cond_t* c, pthread_mutex_t* m, Wait wait) noexcept {
  if (!ours() || !may_wait()) return wait(m);
  if (cancel_due()) act_on_cancel();
  pthread_mutex_t ours = PTHREAD_MUTEX_INITIALIZER;
  real.pthread_mutex_lock(&ours);
  helper_call call([&] {
    // made on this thread, as no helper could be made: return, as from a spurious wake-up
    int r = core::current ? 0 : wait(&ours);
    real.pthread_mutex_unlock(&ours);
    return r;
  });
  call.start();
  retry_until(deadline::never(), c, [&] {
    if (call.done()) return true;
    if (real.pthread_mutex_trylock(&ours) != 0) return false;
    real.pthread_mutex_unlock(&ours);
    return true;
  });
  int not_owner = posix::pthread_mutex_unlock(m);
  bool cancelled = !not_owner && call.wait(handlers::meanwhile, true) == -ECANCELED;
  if (cancelled || not_owner) {
    // Nothing can wake the helper alone; the other waiters must expect spurious wake-ups.
    real.pthread_cond_broadcast(c);
    call.wait(handlers::meanwhile, false);
  }
  if (not_owner) return not_owner;
  int r = posix::pthread_mutex_lock(m);
  if (cancelled) act_on_cancel();
  return r ? r : call.value;
}

int wait_until(pthread_cond_t* c, pthread_mutex_t* m, deadline until) noexcept {
  if (cancel_due()) act_on_cancel();
  futex::waiter w;
  w.count = &waiting(c);
  futex::add(w, c);
  // While threads wait that will lock the mutex again, it must not be destroyed: the C library
  // checks the count of its users.
  m->__data.__nusers++;
  int r = posix::pthread_mutex_unlock(m);
  if (r) {
    // The caller does not hold the mutex: do not wait.
    m->__data.__nusers--;
    futex::remove(w);
    return r;
  }
  int ended = futex::wait(w, until, futex::ends::by_cancel);
  r = posix::pthread_mutex_lock(m);
  m->__data.__nusers--;
  if (ended == -ECANCELED) act_on_cancel();
  if (r) return r;
  return ended == -ETIMEDOUT ? ETIMEDOUT : 0;
}

// A waiter is listed before it unlocks the mutex, so anybody who has locked the mutex since sees
// it.
int wake(pthread_cond_t* c, int n) noexcept {
  if (waiting(c).load(std::memory_order_seq_cst) != 0) futex::wake(c, n);
  return 0;
}

}  // namespace

int pthread_cond_wait(pthread_cond_t* c, pthread_mutex_t* m) {
  if (is_known(c)) return shared_condition::wait(c, m, deadline::never());
  if (foreign(c))
    return wait_foreign(c, m,
                        [c](pthread_mutex_t* held) { return real.pthread_cond_wait(c, held); });
  return wait_until(c, m, deadline::never());
}

int pthread_cond_timedwait(pthread_cond_t* c, pthread_mutex_t* m, const timespec* until) {
  if (!valid_time(until)) return EINVAL;
  if (is_known(c)) return shared_condition::wait(c, m, futex::absolute(clock_of(c), *until));
  if (foreign(c)) {
    return wait_foreign(
        c, m, [=](pthread_mutex_t* held) { return real.pthread_cond_timedwait(c, held, until); });
  }
  return wait_until(c, m, futex::absolute(clock_of(c), *until));
}

int pthread_cond_clockwait(pthread_cond_t* c, pthread_mutex_t* m, clockid_t clock,
                           const timespec* until) {
  if (!valid_time(until) || (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC)) return EINVAL;
  if (is_known(c)) return shared_condition::wait(c, m, futex::absolute(clock, *until));
  if (foreign(c)) {
    return wait_foreign(c, m, [=](pthread_mutex_t* held) {
      return real.pthread_cond_clockwait(c, held, clock, until);
    });
  }
  return wait_until(c, m, futex::absolute(clock, *until));
}

int pthread_cond_signal(pthread_cond_t* c) {
  if (foreign(c)) return real.pthread_cond_signal(c);
  return wake(c, 1);
}

int pthread_cond_broadcast(pthread_cond_t* c) {
  if (foreign(c)) return real.pthread_cond_broadcast(c);
  return wake(c, INT32_MAX);
}

// The C library waits here for threads that are about to leave. Ours do not access the object after
// they are woken.
int pthread_cond_destroy(pthread_cond_t* c) {
  if (foreign(c)) return real.pthread_cond_destroy(c);
  return 0;
}

}  // namespace tendril::posix
