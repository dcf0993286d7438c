// pthread_cancel(3) for threads that are fibers. The C library does the cancelling: it keeps
// requests, state and type in the thread's descriptor, and unwinds. This file only makes a request
// reach a fiber that waits.
#include "posix/threads/thread.hpp"

namespace tendril::posix {

int pthread_cancel(pthread_t id) {
  thread* t = thread_of(id);
  // The C library handles a thread's cancellation of itself completely, even if it acts at once.
  if (!t || t == this_thread) return real.pthread_cancel(id);
  std::uint32_t life = t->life.load(std::memory_order_acquire);
  if (life & thread::ended) return 0;  // as in the C library, also when it was joined
  core::tls::ask_to_cancel(t->storage.pointer);
  fiber* f = t->runs;
  // A runnable thread notices the request itself: at its next cancellation point or wait, or at a
  // tick (see preempt.cpp).
  if (core::tls::cancel_due(t->storage.pointer)) {
    if (hub* h = core::crew.hold_hub_of(f)) {
      core::end_wait(f);
      core::crew.let_go(*h);
    }
  }
  return 0;
}

}  // namespace tendril::posix
