// It must not compile: only the result of acquire(d) tells whether there is a permit to give back.
// message: it tells whether a permit was taken
#include <tendril/semaphore.hpp>

void f() {
#ifdef CORRECT
  tendril::semaphore s;
  if (s.acquire(std::chrono::seconds(1))) s.release();
#else
  tendril::semaphore s;
  s.acquire(std::chrono::seconds(1));
#endif
}
