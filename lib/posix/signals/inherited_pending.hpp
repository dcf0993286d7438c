// Signals that are pending for the main thread alone when the first thread begins.
#pragma once

#include "scheduler/hub.hpp"

namespace tendril::posix {

// Moves the signals that are pending for the main thread alone from the kernel to the hub. The
// kernel keeps them for the kernel thread, so it would deliver them to the next thread that does
// not block them. Called on the main thread, before it makes the first thread.
void adopt_pending(core::hub& h) noexcept;

}  // namespace tendril::posix
