// Cancellation as the waits see it: what cancels is the C library's own, which keeps the requests,
// the state and the type in the thread's descriptor. (pthread_cancel: posix/threads/cancel.cpp.)
#pragma once

#include <pthread.h>

#include <tendril/posix.hpp>

#include "fiber/fiber.hpp"
#include "posix/common/this_thread.hpp"
#include "thread/tls.hpp"

namespace tendril::posix {

// pthread_cancel reached the running thread, in a cancellation point or before: ends it, if it lets
// that happen, and does not return then. Nothing may be left to do in the frames below the
// program's. For a killed task (ECANCELED in all else), and where nothing is to be cancelled, does
// nothing.
void act_on_cancel() noexcept;
// A kernel thread without fibers was cancelled in a wait of ours that is a cancellation point, and
// is to end.
extern __thread bool kernel_thread_cancelled __attribute__((tls_model("initial-exec")));
// A cancellation point, for such a thread.
inline void cancel_kernel_thread() noexcept {
  if (!core::current) [[unlikely]]
    pthread_testcancel();
}
// Whether anybody has asked for that, and whether it would.
inline bool cancel_asked() noexcept { return core::tls::cancel_asked(arch::thread_pointer()); }
bool cancel_due_if_asked() noexcept;
inline bool cancel_due() noexcept { return cancel_asked() && cancel_due_if_asked(); }
// Whether the running thread's cancellation is PTHREAD_CANCEL_ASYNCHRONOUS, so that it ends waits
// that are no cancellation points.
bool cancels_at_once() noexcept;

// While it lives, cancellation waits, unless it is one that comes at any point.
class no_cancellation_point {
 public:
  no_cancellation_point() noexcept {
    if (this_thread && !cancels_at_once()) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state_);
  }
  ~no_cancellation_point() {
    if (state_ >= 0) pthread_setcancelstate(state_, nullptr);
  }
  no_cancellation_point(const no_cancellation_point&) = delete;

 private:
  int state_ = -1;
};

}  // namespace tendril::posix
