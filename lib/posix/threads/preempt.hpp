// Preempts threads that do not yield by themselves: those that compute, spin until another thread
// has done something, or wait in the kernel where we cannot see it (inside the C library, or by an
// inline system call). Kernel threads would take turns then, so fibers must, too.
//
// A separate kernel thread, the watcher, watches the hubs. If the same fiber has run for a tick,
// and occasionally in any case, a signal makes it yield right where it is. It has its own stack and
// its own thread-local storage, so it can be switched away from anywhere except inside the runtime.
// Fibers of the C++ API, which rely on not being interrupted, are not preempted.
#pragma once

#include <ucontext.h>

#include "posix/common/cooperate.hpp"

namespace tendril::posix {

// Starts the watcher of the hubs that run the program's threads, unless one exists; called for each
// thread that is made.
void watch() noexcept;

// Only one thread is left: the watcher ends within a tick, and so do idle helpers, so that the
// process has as many kernel threads as natively (unshare(2) requires that, and programs count
// them).
void watcher_may_end() noexcept;

// To be called after a thread has released what another may wait for. If an earlier tick came in
// vain, because it hit the runtime, lets others run now. Otherwise a thread that only ever yields
// while it holds the lock, and takes it again at once, would keep it forever.
extern std::atomic<bool> tick_missed;
void give_way_late() noexcept;
inline void give_way_if_due() noexcept {
  if (tick_missed.load(std::memory_order_relaxed)) [[unlikely]]
    give_way_late();
}

// Ensures that the preempting signal (core::runtime_signal) has our handler. False: the system
// refuses. Any thread.
bool tick_installed() noexcept;
// Whether the signal can be sent: no known filter forbids it.
bool tick_can_be_sent() noexcept;

// Called when a thread's timer has expired, in a handler of the runtime's that interrupted `where`,
// and its signal was deferred: runs `target`'s handler now, as if that thread had its own
// processor.
void let_thread_handle(core::thread_storage& target, ucontext_t& where) noexcept;
// In a forked child there is no watcher.
void preemption_after_fork() noexcept;

}  // namespace tendril::posix
