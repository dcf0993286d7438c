// Closing a descriptor, which every hub of the process must be informed of. (Also implements
// keep_descriptor() and reveal_descriptor() of the seam.)
#pragma once

namespace tendril::core {

// A descriptor number is about to be closed or replaced: every hub forgets it. Its waiters are
// woken by wake_closed_waiters().
void forget_descriptor(int fd) noexcept;
// Wakes the fibers of all hubs that wait for a forgotten descriptor; called after the close.
void wake_closed_waiters(int fd) noexcept;

}  // namespace tendril::core
