// It must not compile: only the result of try_lock() tells whether the lock is held.
// message: it tells whether the lock was taken
#include <tendril/mutex.hpp>

void f() {
#ifdef CORRECT
  tendril::mutex m;
  if (m.try_lock()) m.unlock();
#else
  tendril::mutex m;
  m.try_lock();
#endif
}
