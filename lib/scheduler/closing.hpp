// The closing of descriptors, which every hub of the process has to hear of. (keep_descriptor() and
// reveal_descriptor() of the seam are here too.)
#pragma once

namespace tendril::core {

// A descriptor number is about to be closed or replaced: every hub forgets it and its waiters wake.
void forget_descriptor(int fd) noexcept;
// Wakes the fibers of all hubs whose descriptor has been forgotten; called after the close.
void wake_closed_waiters(int fd) noexcept;

}  // namespace tendril::core
