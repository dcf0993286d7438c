// Read-write locks that processes share (PTHREAD_PROCESS_SHARED).
#pragma once

#include "posix/common/cooperate.hpp"

namespace tendril::posix::shared_rwlock {

// Whether this C library's object has a format that we know. Otherwise callers can only poll.
bool known() noexcept;

// 0, or an error number: ETIMEDOUT, EAGAIN, EDEADLK. Requires may_wait().
int lock_for_reading(pthread_rwlock_t* l, deadline until) noexcept;
int lock_for_writing(pthread_rwlock_t* l, deadline until) noexcept;

}  // namespace tendril::posix::shared_rwlock
