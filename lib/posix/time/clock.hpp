// The CPU clocks of threads that are fibers, see clock_gettime(2) and pthread_getcpuclockid(3).
#pragma once

#include "base/futex_lock.hpp"
#include "posix/threads/thread.hpp"

namespace tendril::posix {

// While one lives, no thread that thread_of_clock() has returned can end.
extern core::spin_lock living_clocks;
class clocks_guard {
  core::deferring_spin_guard held_{living_clocks};
};

// Whether the clock may belong to a thread that is a fiber, or to the main thread beside such
// threads. thread_of_clock(), which requires a guard, then finds the thread; null: none of ours.
// Any kernel thread.
bool may_be_ours(clockid_t clock) noexcept;
thread* thread_of_clock(clockid_t clock) noexcept;
// Whether it is the running thread's own clock; also on a kernel thread without fibers.
bool is_own_clock(clockid_t clock) noexcept;
// The kernel's clock number for a kernel thread.
clockid_t clock_of(int tid) noexcept;

// The processor time that a living thread has used. Any kernel thread.
core::nanoseconds cpu_time(core::thread_storage& t) noexcept;
// The same by the thread's clock. False: thread_of_clock() finds no thread.
bool time_of_thread(clockid_t clock, core::nanoseconds& now) noexcept;

// To be called when a thread has ended; and in a forked child, whose other threads stayed in its
// parent.
void clocks_lose_thread(thread& t) noexcept;
void clocks_are_not_inherited() noexcept;

}  // namespace tendril::posix
