#include "posix/common/cancellation.hpp"

#include "libc/real.hpp"
#include "scheduler/park.hpp"

namespace tendril::posix {

bool cancel_due_if_asked() noexcept {
  return this_thread && core::tls::cancel_due(arch::thread_pointer());
}

bool cancels_at_once() noexcept {
  return this_thread && core::tls::cancels_at_once(arch::thread_pointer());
}

void act_on_cancel() noexcept {
  if (core::current) core::note_ended_wait(core::current);
  if (kernel_thread_cancelled) real.pthread_exit(PTHREAD_CANCELED);
  if (cancel_due()) pthread_testcancel();
}

__thread bool kernel_thread_cancelled __attribute__((tls_model("initial-exec"))) = false;

}  // namespace tendril::posix
