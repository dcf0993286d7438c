// A kernel thread's hub, from its first fiber to the kernel thread's end.
#pragma once

#include "scheduler/hub.hpp"

namespace tendril::core {

// Makes the calling kernel thread's hub. If there is no memory, try_to_make_home() returns null,
// and make_home() ends the process.
hub* try_to_make_home() noexcept;
hub* make_home() noexcept;
// Like try_to_make_home(), for a carrier (crew.hpp), which must end its hub itself: the C library's
// list of what to do at a thread's end takes memory from malloc, which would make an arena for the
// carrier.
hub* make_carriers_home() noexcept;
void end_carriers_home(hub& h) noexcept;

// The running fiber, and its hub; made on first use.
inline fiber* ensure_current() noexcept {
  if (!current) make_home();
  return current;
}
inline hub& hub_here() noexcept { return *hub::of(ensure_current()); }

// In a forked child, whose only hub is the running thread's.
void hubs_after_fork() noexcept;

}  // namespace tendril::core
