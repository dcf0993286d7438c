// Whether the process's locks are ours, and the number by which they know their owner.
#pragma once

#include <tendril/pthread.hpp>

#include "posix/common/cooperate.hpp"
#include "posix/common/this_thread.hpp"

namespace tendril::posix {

// See locks_are_ours.
inline bool ours() noexcept { return locks_are_ours.load(std::memory_order_relaxed); }

// The number by which a lock knows its owner: the thread's, or for a fiber that shares its thread
// with others, a number of its own. The latter is above all thread numbers (see core::tls), and is
// reused after 2^30 fibers.
inline int lock_owner() noexcept {
  fiber* self = core::current;
  if (self && self->storage->signals.owner != self) [[unlikely]]
    return int(1u << 30 | (self->id & ((1u << 30) - 1)));
  return own_tid();
}

// Whether the caller has the write lock.
inline bool has_write_lock(const pthread_rwlock_t* l) noexcept {
  return l->__data.__cur_writer != 0 && l->__data.__cur_writer == lock_owner();
}

// Called when the caller needs a lock that another fiber holds. If the caller must not wait (a
// generator's body, a trace callback), ends the process, because it would hang.
void check_may_wait() noexcept;

}  // namespace tendril::posix
