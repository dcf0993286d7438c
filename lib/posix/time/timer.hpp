// Timers that signal a thread that is a fiber, or that run on the CPU clock of one.
#pragma once

#include "posix/threads/thread.hpp"

namespace tendril::posix {

// To be called when a thread has ended; and in a forked child, which does not inherit timers.
void timers_lose_thread(const core::thread_storage& s) noexcept;
void timers_are_not_inherited() noexcept;

}  // namespace tendril::posix
