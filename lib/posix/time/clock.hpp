// The CPU clocks of threads that are fibers, see clock_gettime(2) and pthread_getcpuclockid(3).
#pragma once

#include "base/futex_lock.hpp"
#include "posix/threads/thread.hpp"

namespace tendril::posix {

// While one lives, no thread that thread_of_clock() names comes to its end.
extern core::spin_lock living_clocks;
class clocks_guard {
  core::signals_deferred quiet_;
  core::spin_guard held_{living_clocks};
};

// Whether the clock may be a thread's that is a fiber, or the main thread's beside such. Then which
// one's, with a guard; null: none of them. Any kernel thread.
bool may_be_ours(clockid_t clock) noexcept;
thread* thread_of_clock(clockid_t clock) noexcept;
// Whether it is the running thread's, also of one that is the kernel's.
bool is_own_clock(clockid_t clock) noexcept;
// The kernel's number for the clock of a kernel thread.
clockid_t clock_of(int tid) noexcept;

// What a living thread has used of the processor, in nanoseconds. Any kernel thread.
core::nanoseconds cpu_time(core::thread_storage& t) noexcept;
// The same by its clock; false: thread_of_clock() names none.
bool time_of_thread(clockid_t clock, core::nanoseconds& now) noexcept;

// The thread has ended; the process is a forked child, whose threads have stayed in its parent.
void clocks_lose_thread(thread& t) noexcept;
void clocks_are_not_inherited() noexcept;

}  // namespace tendril::posix
