// pthread_once(3) where threads are fibers.
//
// The C library runs the routine and undoes the beginning when the routine is left by cancellation or an exception. Here
// is only how a fiber waits while another one is in there: in the futex table, and looking now and then, since nobody
// tells of a routine that was left.
#include <tendril/pthread.hpp>

#include "posix/common/futex.hpp"
#include "posix/locks/ownership.hpp"

namespace tendril::posix {

namespace {

constexpr std::uint32_t in_progress = 1, done = 2;

// What a control object holds while its routine runs: the C library counts the forks in it, since a routine that ran
// in the parent process does not run in the child. Seen in an object of our own.
__thread pthread_once_t* probe __attribute__((tls_model("initial-exec")));
__thread std::uint32_t seen __attribute__((tls_model("initial-exec")));

std::uint32_t running_here() noexcept {
  pthread_once_t control = PTHREAD_ONCE_INIT;
  probe = &control;
  real.pthread_once(&control, [] { seen = std::uint32_t(*probe); });
  return seen;
}

bool runs(std::uint32_t s) noexcept { return (s & (in_progress | done)) == in_progress && s == running_here(); }

}  // namespace

int pthread_once(pthread_once_t* control, void (*routine)()) {
  std::atomic<std::uint32_t>& w = *reinterpret_cast<std::atomic<std::uint32_t>*>(control);
  std::uint32_t s = w.load(std::memory_order_acquire);
  if (s & done) return 0;
  if (!ours()) return real.pthread_once(control, routine);
  if (runs(s) && may_wait()) {
    for (core::nanoseconds pause = 50'000; runs(s = w.load(std::memory_order_acquire));) {
      int r = futex::wait(&w, s, deadline::after(core::now(), pause), futex::ends::by_wake);
      if (r == -ECANCELED) act_on_cancel();
      if (pause < 5'000'000) pause *= 2;
    }
    if (s & done) return 0;
  }
  int r = real.pthread_once(control, routine);
  futex::wake(control, INT32_MAX);
  return r;
}

void call_once(once_flag* flag, void (*routine)()) { posix::pthread_once(reinterpret_cast<pthread_once_t*>(flag), routine); }

}  // namespace tendril::posix
