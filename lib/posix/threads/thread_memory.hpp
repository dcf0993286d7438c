// The memory of threads: stacks with the thread's object, fiber and storage at the top, kept for
// the next thread.
#pragma once

#include "posix/threads/thread.hpp"

namespace tendril::posix {

// Makes a thread object on a stack of that size, with a guard of that size below; null: no memory.
thread* make_on_stack(std::size_t asked, std::size_t guard) noexcept;
// The same for a thread on the program's own stack.
thread* make_beside(void* stack, std::size_t size) noexcept;
// Where the thread's fiber must be placed.
void* fiber_place(thread* t) noexcept;

// The thread was joined, or never started: its memory may go to the next one. May be called inside
// the runtime, where waiting for a lock of the C library is not allowed (see leave_memory() in
// fiber/lifetime.cpp).
void recycle(thread* t) noexcept;
// Called when a thread's fiber is destroyed; its payload is the thread.
void fiber_is_gone(void* payload) noexcept;
// Frees what ended threads have left and the next ones will not need. Not inside the runtime.
void tidy_up() noexcept;
// Called by the hub, inside the runtime, where nothing can be returned to the C library: frees most
// of the stack of each thread that was already idle at the last call, and what the pool of threads'
// stacks can spare.
core::stack_pool::trimmed trim_idle() noexcept;
// Before and after the process forks: meanwhile no kernel thread changes the list of idle threads.
void lock_threads_for_fork() noexcept;
void unlock_threads_after_fork() noexcept;
// In a forked child, drops the idle threads if the list cannot be used.
void thread_memory_after_fork() noexcept;

}  // namespace tendril::posix
