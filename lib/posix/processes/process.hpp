// What the rest of the runtime must know of waiting for child processes.
#pragma once

namespace tendril::posix {

// In a forked child, where no other thread is in system(3).
void system_after_fork() noexcept;

}  // namespace tendril::posix
