// pthread_rwlock_rdlock(3) and related calls, where threads are fibers.
//
// The program's object contains, in the C library's count of readers, how the lock is held and who
// waits. Readers and writers wait in the futex table under the object's address. Whoever unlocks it
// while others wait hands it over to them, so nobody can come in between, and a thread that locks
// it again and again does not starve the others. The kind decides who is first: as in the C
// library, a writer hands it over to readers (PTHREAD_RWLOCK_PREFER_READER_NP) or to the next
// writer (the other kinds), and new readers wait behind waiting writers only with
// PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP. Locks that processes share have the C library's
// format (shared_rwlock.hpp).
#include "posix/common/backoff.hpp"
#include "posix/common/futex.hpp"
#include "posix/locks/ownership.hpp"
#include "posix/locks/shared_rwlock.hpp"

namespace tendril::posix {

namespace {

// The state: the number of readers that hold the lock, and these bits.
constexpr std::uint32_t written = 1u << 31;
constexpr std::uint32_t writers_wait = 1u << 30, readers_wait = 1u << 29;
constexpr std::uint32_t one_reader = 1, readers = readers_wait - 1;
constexpr std::uint32_t holders = written | readers;
// `bits` of a waiter.
constexpr std::uint32_t as_reader = 1, as_writer = 2;

std::atomic<std::uint32_t>& state(pthread_rwlock_t* l) noexcept {
  return *reinterpret_cast<std::atomic<std::uint32_t>*>(&l->__data.__readers);
}

// The C library would not understand the state, so a lock that was ours once stays ours.
bool foreign(const pthread_rwlock_t* l) noexcept {
  return l->__data.__shared || !(ours() || locks_were_ours.load(std::memory_order_relaxed));
}

bool may_take(const pthread_rwlock_t* l, std::uint32_t s, std::uint32_t as) noexcept {
  if (as == as_writer) return !(s & holders);
  return !(s & written) &&
         !((s & writers_wait) && l->__data.__flags == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
}

// 0; EBUSY; EAGAIN: too many readers.
int try_to_take(pthread_rwlock_t* l, std::uint32_t as) noexcept {
  std::atomic<std::uint32_t>& w = state(l);
  std::uint32_t s = w.load(std::memory_order_relaxed);
  do {
    if (!may_take(l, s, as)) return EBUSY;
    if (as == as_reader && (s & readers) == readers) return EAGAIN;
  } while (!w.compare_exchange_weak(s, as == as_writer ? s | written : s + one_reader,
                                    std::memory_order_acquire, std::memory_order_relaxed));
  return 0;
}

// Releases `released` (written, one_reader, or 0 if somebody has given up waiting), and gives the
// lock to the waiters that may have it now. Requires the lock of the bucket.
void hand_over(futex::bucket& b, pthread_rwlock_t* l, std::uint32_t released) noexcept {
  std::uint32_t waiting_readers = 0, waiting_writers = 0;
  futex::waiter* writer = nullptr;
  for (futex::waiter* w = b.waiters.front(); w; w = b.waiters.after(*w)) {
    if (w->word != l) continue;
    if (w->bits == as_reader) {
      waiting_readers++;
    } else {
      if (!writer) writer = w;
      waiting_writers++;
    }
  }
  int kind = l->__data.__flags;
  bool readers_first = released == written && kind == PTHREAD_RWLOCK_PREFER_READER_NP;
  std::atomic<std::uint32_t>& w = state(l);
  std::uint32_t s = w.load(std::memory_order_relaxed), next;
  bool to_writer, to_readers;
  do {
    std::uint32_t held = (s & holders) - released;
    to_writer = writer && !held && !(readers_first && waiting_readers);
    to_readers = waiting_readers && !to_writer && !(held & written) &&
                 !(held && writer && kind == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    next = held + (to_writer ? written : to_readers ? waiting_readers * one_reader : 0);
    if (waiting_writers > to_writer) next |= writers_wait;
    if (waiting_readers && !to_readers) next |= readers_wait;
  } while (!w.compare_exchange_weak(s, next, std::memory_order_acq_rel, std::memory_order_relaxed));
  if (to_writer) futex::wake_one(*writer);
  if (!to_readers) return;
  for (futex::waiter* r = b.waiters.front(); r;) {
    futex::waiter* after = b.waiters.after(*r);
    if (r->word == l && r->bits == as_reader) futex::wake_one(*r);
    r = after;
  }
}

// Waits for the lock after try_to_take() has failed. 0, or an error number.
int wait_and_take(pthread_rwlock_t* l, std::uint32_t as, deadline until) noexcept {
  std::atomic<std::uint32_t>& word = state(l);
  futex::prepare();
  futex::bucket& b = futex::bucket_of(l);
  for (;;) {
    futex::waiter w;
    w.bits = as;
    {
      core::signals_deferred quiet;
      detail::held guard(b.lock);
      std::uint32_t s = word.load(std::memory_order_relaxed);
      do {
        if (may_take(l, s, as)) break;
      } while (!word.compare_exchange_weak(s, s | (as == as_writer ? writers_wait : readers_wait)));
      if (may_take(l, s, as)) {
        int r = try_to_take(l, as);
        if (r != EBUSY) return r;
        continue;
      }
      futex::list_waiter(b, w, l);
    }
    int r = futex::wait(w, until, futex::ends::by_wake);
    if (r == 0) return 0;  // handed over to us
    {
      core::signals_deferred quiet;
      detail::held guard(b.lock);
      hand_over(b, l, 0);
    }
    if (r != -ECANCELED) return -r;
    check_may_wait();
    act_on_cancel();
  }
}

// Takes a lock that other processes share. `blocking` is the C library's call.
template <class Blocking>
int take_foreign(pthread_rwlock_t* l, std::uint32_t as, deadline until,
                 Blocking blocking) noexcept {
  if (!ours() || !may_wait()) return blocking();
  if (shared_rwlock::known()) {
    return as == as_reader ? shared_rwlock::lock_for_reading(l, until)
                           : shared_rwlock::lock_for_writing(l, until);
  }
  int r;
  bool done = retry_until(until, l, [&] {
    r = as == as_reader ? real.pthread_rwlock_tryrdlock(l) : real.pthread_rwlock_trywrlock(l);
    return r != EBUSY || has_write_lock(l);
  });
  if (!done) return ETIMEDOUT;
  return r == EBUSY ? blocking() : r;
}

bool valid_time(clockid_t clock, const timespec* t) noexcept {
  return (clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC) && t->tv_nsec >= 0 &&
         t->tv_nsec < 1'000'000'000;
}

int take(pthread_rwlock_t* l, std::uint32_t as, clockid_t clock, const timespec* until) noexcept {
  if (until && !valid_time(clock, until)) return EINVAL;
  int r = EBUSY;
  if (has_write_lock(l)) return EDEADLK;
  r = try_to_take(l, as);
  if (r == EBUSY)
    r = wait_and_take(l, as, until ? futex::absolute(clock, *until) : deadline::never());
  if (r == 0 && as == as_writer) l->__data.__cur_writer = lock_owner();
  return r;
}

}  // namespace

int pthread_rwlock_rdlock(pthread_rwlock_t* l) {
  if (foreign(l)) {
    return take_foreign(l, as_reader, deadline::never(),
                        [l] { return real.pthread_rwlock_rdlock(l); });
  }
  return take(l, as_reader, CLOCK_MONOTONIC, nullptr);
}

int pthread_rwlock_wrlock(pthread_rwlock_t* l) {
  if (foreign(l)) {
    return take_foreign(l, as_writer, deadline::never(),
                        [l] { return real.pthread_rwlock_wrlock(l); });
  }
  return take(l, as_writer, CLOCK_MONOTONIC, nullptr);
}

int pthread_rwlock_clockrdlock(pthread_rwlock_t* l, clockid_t clock, const timespec* until) {
  if (!foreign(l)) return take(l, as_reader, clock, until);
  auto blocking = [&] { return real.pthread_rwlock_clockrdlock(l, clock, until); };
  if (!valid_time(clock, until)) return blocking();
  return take_foreign(l, as_reader, futex::absolute(clock, *until), blocking);
}

int pthread_rwlock_clockwrlock(pthread_rwlock_t* l, clockid_t clock, const timespec* until) {
  if (!foreign(l)) return take(l, as_writer, clock, until);
  auto blocking = [&] { return real.pthread_rwlock_clockwrlock(l, clock, until); };
  if (!valid_time(clock, until)) return blocking();
  return take_foreign(l, as_writer, futex::absolute(clock, *until), blocking);
}

int pthread_rwlock_timedrdlock(pthread_rwlock_t* l, const timespec* until) {
  return posix::pthread_rwlock_clockrdlock(l, CLOCK_REALTIME, until);
}

int pthread_rwlock_timedwrlock(pthread_rwlock_t* l, const timespec* until) {
  return posix::pthread_rwlock_clockwrlock(l, CLOCK_REALTIME, until);
}

int pthread_rwlock_tryrdlock(pthread_rwlock_t* l) {
  int r = foreign(l) ? real.pthread_rwlock_tryrdlock(l) : try_to_take(l, as_reader);
  // The caller may try again until it is free.
  if (r == EBUSY) let_others_run();
  return r;
}

int pthread_rwlock_trywrlock(pthread_rwlock_t* l) {
  if (foreign(l)) {
    int r = real.pthread_rwlock_trywrlock(l);
    if (r == EBUSY) let_others_run();
    return r;
  }
  int r = try_to_take(l, as_writer);
  if (r == 0) l->__data.__cur_writer = lock_owner();
  else let_others_run();
  return r;
}

int pthread_rwlock_unlock(pthread_rwlock_t* l) {
  if (foreign(l)) return real.pthread_rwlock_unlock(l);
  std::atomic<std::uint32_t>& w = state(l);
  std::uint32_t s = w.load(std::memory_order_relaxed);
  if (s & written) l->__data.__cur_writer = 0;
  for (;;) {
    std::uint32_t held = s & written ? written : one_reader;
    if (!(s & holders)) return 0;  // not locked: undefined in POSIX, harmless here
    bool last = (s & holders) == held;
    if (last && (s & (writers_wait | readers_wait))) {
      futex::bucket& b = futex::bucket_of(l);
      core::signals_deferred quiet;
      detail::held guard(b.lock);
      // Of several readers that unlock at once, the one that finds no other holder hands it over.
      if ((w.load(std::memory_order_relaxed) & holders) == held) {
        hand_over(b, l, held);
        return 0;
      }
      s = w.load(std::memory_order_relaxed);
      continue;
    }
    if (w.compare_exchange_weak(s, s - held, std::memory_order_release, std::memory_order_relaxed))
      return 0;
  }
}

}  // namespace tendril::posix
