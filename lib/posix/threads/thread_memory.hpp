// The memory of threads: stacks with a thread's object, fiber and storage at their top, kept for
// the next thread.
#pragma once

#include "posix/threads/thread.hpp"

namespace tendril::posix {

// A thread object on a stack of that size, with a guard of that size below; null: no memory.
thread* make_on_stack(hub& h, std::size_t asked, std::size_t guard) noexcept;
// For a thread that brings its own stack.
thread* make_beside(void* stack, std::size_t size) noexcept;
// Where its fiber is to lie.
void* fiber_place(thread* t) noexcept;

// The thread has been joined, or was never begun: its memory may go to the next one. Also inside
// the runtime, where nobody may wait for a lock of the C library (see leave_memory() in
// fiber/lifetime.cpp).
void recycle(thread* t) noexcept;
// The destruction of a thread's fiber, whose payload is the thread.
void fiber_is_gone(void* payload) noexcept;
// Gives back what ended threads have left and the next ones will not need. Not inside the runtime.
void tidy_up() noexcept;
// The same on the hub's time, inside the runtime, where nothing can be given to the C library: most
// of an idle thread's stack, if it was idle the last time, too. Returns whether there is more to
// come.
bool trim_idle() noexcept;
// In a forked child the idle ones are given up.
void thread_memory_after_fork() noexcept;

}  // namespace tendril::posix
