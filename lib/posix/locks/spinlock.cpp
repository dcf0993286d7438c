// pthread_spin_lock(3) where threads are fibers: who finds the lock held lets the others run, one
// of which has it. The lock itself is the C library's, whose meaning of the object differs from
// machine to machine.
#include "posix/common/cooperate.hpp"
#include "posix/locks/ownership.hpp"

namespace tendril::posix {

int pthread_spin_lock(pthread_spinlock_t* l) {
  if (!ours()) return real.pthread_spin_lock(l);
  while (int r = real.pthread_spin_trylock(l)) {
    if (r != EBUSY) return r;
    posix::sched_yield();
  }
  return 0;
}

int pthread_spin_trylock(pthread_spinlock_t* l) {
  int r = real.pthread_spin_trylock(l);
  if (r == EBUSY) let_others_run();  // it may be tried until it is free
  return r;
}

}  // namespace tendril::posix
