// pthread_once(3) where threads are fibers.
//
// The C library runs the routine, and resets the object if the routine is left by cancellation or
// an exception. This file only makes a fiber wait while another one is in the routine: in the futex
// table, and by polling, because nothing wakes it when the routine was left.

#include <tendril/pthread.hpp>

#include "base/symbols.hpp"
#include "posix/common/futex.hpp"
#include "posix/locks/ownership.hpp"

namespace tendril::posix {

namespace {

constexpr std::uint32_t in_progress = 1, done = 2;

// The value of a control object while its routine runs. It contains the C library's count of forks,
// because a routine that ran in the parent does not run in the child; so it is read from an object
// of our own.
__thread pthread_once_t* probe __attribute__((tls_model("initial-exec")));
__thread std::uint32_t seen __attribute__((tls_model("initial-exec")));

std::uint32_t running_here() noexcept {
  pthread_once_t control = PTHREAD_ONCE_INIT;
  probe = &control;
  real.pthread_once(&control, [] { seen = std::uint32_t(*probe); });
  return seen;
}

// std::call_once stores what its routine must call in two thread-local variables of libstdc++.
// Fibers on the same thread share them, so a waiter restores its own values before the routine
// runs. (Offsets from the thread pointer; 0: libstdc++ is not in the program, or was loaded later.)
constinit std::ptrdiff_t call_once_variables[2];

__attribute__((constructor)) void find_call_once_variables() noexcept {
  const char* const names[] = {"_ZSt15__once_callable", "_ZSt11__once_call"};
  for (int i = 0; i < 2; i++) {
    if (void* found = core::find_symbol(names[i]))
      call_once_variables[i] =
          static_cast<char*>(found) - static_cast<char*>(arch::thread_pointer());
  }
}

class keep_what_to_call {
 public:
  keep_what_to_call() noexcept {
    each([](void*& variable, void*& kept) { kept = variable; });
  }
  ~keep_what_to_call() {
    each([](void*& variable, void*& kept) { variable = kept; });
  }
  keep_what_to_call(const keep_what_to_call&) = delete;

 private:
  template <class F>
  void each(F f) noexcept {
    for (int i = 0; i < 2; i++) {
      std::ptrdiff_t at = call_once_variables[i];
      if (at)
        f(*reinterpret_cast<void**>(static_cast<char*>(arch::thread_pointer()) + at), kept_[i]);
    }
  }

  void* kept_[2] = {};
};

bool runs(std::uint32_t s) noexcept {
  return (s & (in_progress | done)) == in_progress && s == running_here();
}

}  // namespace

int pthread_once(pthread_once_t* control, void (*routine)()) {
  std::atomic<std::uint32_t>& w = *reinterpret_cast<std::atomic<std::uint32_t>*>(control);
  std::uint32_t s = w.load(std::memory_order_acquire);
  if (s & done) return 0;
  if (!ours()) return real.pthread_once(control, routine);
  if (runs(s) && may_wait()) {
    keep_what_to_call kept;
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

void call_once(once_flag* flag, void (*routine)()) {
  posix::pthread_once(reinterpret_cast<pthread_once_t*>(flag), routine);
}

}  // namespace tendril::posix
