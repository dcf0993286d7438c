// Taking the kernel thread away from a thread that does not give way by itself: one that computes,
// or spins until another has done something, or waits in the kernel where we could not see it
// (inside the C library, in an inline system call). The C library's threads would take turns then,
// so ours have to.
//
// A kernel thread beside watches the hub. If the same fiber has run for a tick, and now and then in
// any case, a signal makes it yield, right where it is: on its own stack, with its own thread-local
// storage, it can be left anywhere but inside the runtime. Fibers of the C++ API, which count on
// not being interrupted, are left alone.
#pragma once

#include <ucontext.h>

#include "posix/common/cooperate.hpp"

namespace tendril::posix {

// Begins to watch the hub on which the program's threads are, unless somebody does; called with
// each that is made.
void watch(hub& h) noexcept;

// There is but one thread left: the watcher ends within a tick, and with it the helpers that have
// nothing to do, so that the process has as many kernel threads as natively (which unshare(2) asks
// for, and programs count).
void watcher_may_end() noexcept;

// After a thread has let go of what another waits for: lets that one run first if a tick came in
// vain before, amid the runtime. Else one that only ever gives way with the lock held, and takes it
// again at once, would keep it for ever.
extern std::atomic<bool> tick_in_vain;
void give_way_late() noexcept;
inline void give_way_if_due() noexcept {
  if (tick_in_vain.load(std::memory_order_relaxed)) [[unlikely]]
    give_way_late();
}

// Makes sure that the signal which does it (core::runtime_signal) finds our handler; false: the
// system refuses. Any thread.
bool tick_installed() noexcept;
// Whether no filter is known to forbid to send it.
bool tick_can_be_sent() noexcept;

// A thread's timer has expired, in a handler of the runtime's own that interrupted `where`, and its
// signal has been put off: the thread handles it as if it ran on a processor of its own.
void let_thread_handle(core::thread_storage& target, ucontext_t& where) noexcept;
// In a forked child nobody watches.
void preemption_after_fork() noexcept;

}  // namespace tendril::posix
