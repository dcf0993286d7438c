// What each thread has used of the processor, where threads share a kernel thread and its clock:
// the switch splits that from when somebody first asks.
#pragma once

#include "fiber/fiber.hpp"

namespace tendril::core {

// What the kernel thread has used of the processor since this was last called has been the running
// thread's; `next` runs from now on.
void count_cpu_time(thread_storage& running, thread_storage& next, fiber_home& home) noexcept;
// What a thread has used, asked on another kernel thread.
nanoseconds cpu_time_elsewhere(const thread_storage& t, const fiber_home& home,
                               clockid_t homes_clock) noexcept;

}  // namespace tendril::core
