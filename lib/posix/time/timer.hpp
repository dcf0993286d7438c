// Timers that signal a thread that is a fiber, or are on the CPU clock of one.
#pragma once

#include "posix/threads/thread.hpp"

namespace tendril::posix {

// The thread has ended; the process is a forked child, whose timers are its parent's.
void timers_lose_thread(const core::thread_storage& s) noexcept;
void timers_are_not_inherited() noexcept;

}  // namespace tendril::posix
