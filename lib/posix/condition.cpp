// pthread_cond_wait(3) and its kin, where threads are fibers.
//
// The program's object holds the number of those that wait; they stand in the futex table under its address, so that
// signalling nobody costs one load, and who came first is woken first. The clock that the object was made with is
// where pthread_cond_init left it. Objects that other processes share wait by waking now and then, which POSIX allows.
#include "futex.hpp"
#include "thread.hpp"

namespace tendril::posix {

namespace {

// In the place of the C library's __wseq, which is zero at first.
std::atomic<std::uint32_t>& waiting(pthread_cond_t* c) noexcept {
  return *reinterpret_cast<std::atomic<std::uint32_t>*>(c);
}
constexpr unsigned shared_bit = 1, monotonic_bit = 2;  // in __wrefs

bool foreign(const pthread_cond_t*) noexcept { return !threads_are_fibers.load(std::memory_order_relaxed); }
bool shared(const pthread_cond_t* c) noexcept { return c->__data.__wrefs & shared_bit; }
clockid_t clock_of(const pthread_cond_t* c) noexcept {
  return c->__data.__wrefs & monotonic_bit ? CLOCK_MONOTONIC : CLOCK_REALTIME;
}

bool valid_time(const timespec* t) noexcept { return t->tv_nsec >= 0 && t->tv_nsec < 1'000'000'000; }

int wait_shared(pthread_mutex_t* m, deadline until) noexcept {
  core::nanoseconds t = core::now();
  if (until.passed(t)) return ETIMEDOUT;
  int r = posix::pthread_mutex_unlock(m);
  if (r) return r;
  core::wait_info what;
  what.kind = core::wait_kind::lock;
  what.remote = what.interruptible = true;
  deadline pause = deadline::after(t, 1'000'000);
  r = cooperative() ? wait_parked(what, pause.at < until.at ? pause : until, on_signal::restart) : 0;
  if (!core::current) {
    timespec nap{.tv_sec = 0, .tv_nsec = 1'000'000};
    sys::call(SYS_nanosleep, &nap, 0);
  }
  posix::pthread_mutex_lock(m);
  if (r == -ECANCELED) act_on_cancel();
  return 0;
}

int wait_until(pthread_cond_t* c, pthread_mutex_t* m, deadline until) noexcept {
  if (cancel_due()) act_on_cancel();
  if (shared(c)) return wait_shared(m, until);
  futex::waiter w;
  w.count = &waiting(c);
  futex::add(w, c);
  int r = posix::pthread_mutex_unlock(m);
  if (r) {
    // Not the caller's: nobody waits.
    futex::remove(w);
    return r;
  }
  int ended = futex::wait(w, until, futex::ends::by_cancel);
  r = posix::pthread_mutex_lock(m);
  if (ended == -ECANCELED) act_on_cancel();
  if (r) return r;
  return ended == -ETIMEDOUT ? ETIMEDOUT : 0;
}

// Who waits has listed itself before it let go of the mutex, so that whoever has held that since sees it.
int wake(pthread_cond_t* c, int n) noexcept {
  if (waiting(c).load(std::memory_order_seq_cst) != 0) futex::wake(c, n);
  return 0;
}

}  // namespace

int pthread_cond_wait(pthread_cond_t* c, pthread_mutex_t* m) {
  if (foreign(c)) return real.pthread_cond_wait(c, m);
  return wait_until(c, m, deadline::never());
}

int pthread_cond_timedwait(pthread_cond_t* c, pthread_mutex_t* m, const timespec* until) {
  if (foreign(c)) return real.pthread_cond_timedwait(c, m, until);
  if (!valid_time(until)) return EINVAL;
  return wait_until(c, m, futex::absolute(clock_of(c), *until));
}

int pthread_cond_clockwait(pthread_cond_t* c, pthread_mutex_t* m, clockid_t clock, const timespec* until) {
  if (foreign(c)) return real.pthread_cond_clockwait(c, m, clock, until);
  if (!valid_time(until) || (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC)) return EINVAL;
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

// The C library waits here for those that are about to leave; ours look at the object no more once they are woken.
int pthread_cond_destroy(pthread_cond_t* c) {
  if (foreign(c)) return real.pthread_cond_destroy(c);
  return 0;
}

}  // namespace tendril::posix
