// pthread_barrier_wait(3), where threads are fibers.
//
// The program's object says how many are waited for, where pthread_barrier_init left it, and holds how many have come;
// they stand in the futex table under its address. Nobody looks at the object after the last one has come, so it may be
// destroyed at once. Those that other processes share are the C library's, and waited for on a helper thread.
#include "posix/common/futex.hpp"
#include "posix/common/offload.hpp"
#include "posix/locks/ownership.hpp"

namespace tendril::posix {

namespace {

// As the C library has it.
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

}  // namespace

int pthread_barrier_wait(pthread_barrier_t* object) {
  barrier& mine = barrier::of(object);
  if (foreign(mine)) {
    if (!ours() || !may_wait()) return real.pthread_barrier_wait(object);
    return offload([object] { return real.pthread_barrier_wait(object); }, handlers::meanwhile);
  }
  futex::prepare();
  futex::bucket& b = futex::bucket_of(object);
  futex::waiter w;
  {
    core::undisturbed quiet;
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
      core::undisturbed quiet;
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
