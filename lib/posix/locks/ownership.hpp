// Whose locks the process's locks are, and by which number they know their owner.
#pragma once

#include "posix/threads/thread.hpp"

namespace tendril::posix {

// Whether locks are waited for in our table (posix/common/futex.hpp), by fibers and kernel threads
// alike, or are the C library's. Decided before the first lock is taken: the C library cannot wake
// who waits in our table. Ours are those of a program under the shim whose threads are fibers, and
// of one that links libtendril ahead of the C library (names.cpp).
extern std::atomic<bool> locks_are_ours;
inline bool ours() noexcept { return locks_are_ours.load(std::memory_order_relaxed); }

// The number by which a lock knows its owner: the thread's, or, for a fiber that shares its thread
// with others, one of its own. It is above all thread numbers (see core::tls), and comes again
// after 2^30 fibers.
inline int lock_owner() noexcept {
  fiber* self = core::current;
  if (self && self->storage->signals.owner != self) [[unlikely]]
    return int(1u << 30 | (self->id & ((1u << 30) - 1)));
  return own_tid();
}

// A fiber that may not wait (a generator's body, a trace callback) needs a lock that another one
// holds: ends the process, as it would hang.
void check_may_wait() noexcept;

}  // namespace tendril::posix
