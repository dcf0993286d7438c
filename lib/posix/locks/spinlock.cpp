// pthread_spin_lock(3) where threads are fibers: a fiber that finds the lock held lets the others
// run, because one of them holds it. The lock itself is the C library's; its format differs between
// machines.
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
  // The caller may try again until it is free.
  if (r == EBUSY) let_others_run();
  return r;
}

}  // namespace tendril::posix
