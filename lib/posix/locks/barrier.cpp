// pthread_barrier_wait(3), where threads are fibers.
//
// The program's object contains the number of threads to wait for, as pthread_barrier_init stored
// it, and the number of those that have arrived; these wait in the futex table under the object's
// address. After the last one has arrived, nobody accesses the object, so it may be destroyed at
// once. Barriers that processes share are used in the C library's way by all of them, and waited
// for in the kernel.
#include <limits.h>

#include "posix/common/kernel_futex.hpp"
#include "posix/locks/ownership.hpp"

namespace tendril::posix {

namespace {

// In the C library's format.
struct barrier {
  unsigned in;  // how many wait; guarded by the lock of the bucket
  unsigned round;
  unsigned count;
  int shared;
  unsigned out;

  static barrier& of(pthread_barrier_t* b) noexcept { return *reinterpret_cast<barrier*>(b); }
};
static_assert(sizeof(barrier) <= sizeof(pthread_barrier_t));

bool foreign(const barrier& b) noexcept { return b.shared || !ours(); }

// A shared barrier counts over all rounds: `in` and `out` the threads that have arrived and left,
// `round` those that were released. Near the counters' limit, the last thread to leave resets them,
// and threads that arrive too early for that wait.
int wait_shared(barrier& b) noexcept {
  std::atomic_ref in(b.in), round(b.round), out(b.out);
  auto wait = [](unsigned& word, unsigned expected) {
    auto& w = reinterpret_cast<std::atomic<std::uint32_t>&>(word);
    if (kernel_futex::wait(&w, expected, deadline::never(), futex::ends::by_wake) != -ECANCELED)
      return;
    check_may_wait();
    act_on_cancel();
  };
  const unsigned count = b.count, most = UINT_MAX / 2 - UINT_MAX / 2 % count;
  unsigned mine;
  while ((mine = in.fetch_add(1, std::memory_order_acq_rel) + 1) > most) {
    for (unsigned now = mine; now > most; now = in.load(std::memory_order_relaxed)) wait(b.in, now);
  }
  // the count to which the last thread of the round releases
  const unsigned complete = mine - mine % count;
  unsigned now = round.load(std::memory_order_relaxed);
  while (now + count <= mine) {
    if (!round.compare_exchange_weak(now, complete, std::memory_order_acq_rel,
                                     std::memory_order_relaxed))
      continue;
    kernel_futex::wake(&b.round, INT_MAX);
    now = complete;
  }
  while (now < mine) {
    wait(b.round, now);
    now = round.load(std::memory_order_acquire);
  }
  bool serial = mine % count == 0;
  if (out.fetch_add(1, std::memory_order_acq_rel) + 1 == most) {
    round.store(0, std::memory_order_relaxed);
    out.store(0, std::memory_order_relaxed);
    in.store(0, std::memory_order_release);
    kernel_futex::wake(&b.in, INT_MAX);
  }
  return serial ? PTHREAD_BARRIER_SERIAL_THREAD : 0;
}

}  // namespace

int pthread_barrier_wait(pthread_barrier_t* object) {
  barrier& mine = barrier::of(object);
  if (foreign(mine)) {
    return ours() && core::current && in_hubs_process() ? wait_shared(mine)
                                                        : real.pthread_barrier_wait(object);
  }
  futex::prepare();
  futex::bucket& b = futex::bucket_of(object);
  futex::waiter w;
  {
    core::signals_deferred quiet;
    detail::held guard(b.lock);
    if (++mine.in >= mine.count) {
      mine.in = 0;
      for (futex::waiter* other = b.waiters.front(); other;) {
        futex::waiter* next = b.waiters.after(*other);
        if (other->word == object) futex::wake_one(*other);
        other = next;
      }
      return PTHREAD_BARRIER_SERIAL_THREAD;
    }
    futex::list_waiter(b, w, object);
  }
  if (futex::wait(w, deadline::never(), futex::ends::by_wake) < 0) {
    {
      core::signals_deferred quiet;
      detail::held guard(b.lock);
      mine.in--;
    }
    check_may_wait();
    act_on_cancel();
  }
  return 0;
}

int pthread_barrier_destroy(pthread_barrier_t* object) {
  barrier& mine = barrier::of(object);
  if (foreign(mine)) return real.pthread_barrier_destroy(object);
  return mine.in ? EBUSY : 0;
}

}  // namespace tendril::posix
