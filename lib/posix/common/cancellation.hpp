// What the waits need to know of cancellation. Cancellation itself is the C library's, which keeps
// requests, state and type in the thread's descriptor. (pthread_cancel: posix/threads/cancel.cpp.)
#pragma once

#include <pthread.h>

#include <tendril/posix.hpp>

#include "fiber/fiber.hpp"
#include "posix/common/this_thread.hpp"
#include "thread/tls.hpp"

namespace tendril::posix {

// Acts on a pthread_cancel of the running thread: if the thread allows cancellation, ends it and
// does not return. The frames between the program and this call are unwound, so they must have
// nothing left to do. Does nothing for a killed task (which gets ECANCELED), or if no cancellation
// is due.
void act_on_cancel() noexcept;
// Set when a kernel thread without fibers was cancelled while it waited in one of our cancellation
// points; it must end.
extern __thread bool kernel_thread_cancelled __attribute__((tls_model("initial-exec")));
// A cancellation point, for such a thread.
inline void cancel_kernel_thread() noexcept {
  if (!core::current) [[unlikely]]
    pthread_testcancel();
}
// Whether cancellation was requested; and whether it is due (requested and enabled).
inline bool cancel_asked() noexcept { return core::tls::cancel_asked(arch::thread_pointer()); }
bool cancel_due_if_asked() noexcept;
inline bool cancel_due() noexcept { return cancel_asked() && cancel_due_if_asked(); }
// Whether the running thread's type is PTHREAD_CANCEL_ASYNCHRONOUS, so that cancellation also ends
// waits that are no cancellation points.
bool cancels_at_once() noexcept;

// Disables cancellation during its lifetime, except asynchronous cancellation.
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
