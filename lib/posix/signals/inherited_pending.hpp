// What is pending for the main thread alone when the first thread begins.
#pragma once

#include "scheduler/hub.hpp"

namespace tendril::posix {

// The kernel keeps what was sent to the main thread alone, and what that blocks, for the kernel
// thread, where the next thread that does not block it would get it. So it becomes the main
// thread's in the hub. Main thread, which is about to have others beside it.
void take_over_pending(core::hub& h) noexcept;

}  // namespace tendril::posix
