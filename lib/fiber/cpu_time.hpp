// The processor time of each thread, where threads share a kernel thread and its clock. From the
// first request on, each switch attributes the time to the thread that used it.
#pragma once

#include "fiber/fiber.hpp"

namespace tendril::core {

// Attributes the processor time that the kernel thread has used since the last call to the running
// thread; from now on `next` runs.
void count_cpu_time(thread_storage& running, thread_storage& next, fiber_home& home) noexcept;
// The processor time of a thread of another kernel thread.
nanoseconds cpu_time_elsewhere(const thread_storage& t, const fiber_home& home,
                               clockid_t homes_clock) noexcept;

}  // namespace tendril::core
