// Read-write locks that processes share (PTHREAD_PROCESS_SHARED).
#pragma once

#include "posix/common/cooperate.hpp"

namespace tendril::posix::shared_rwlock {

// Whether the C library's object is one that we know; else it is only asked, again and again.
bool known() noexcept;

// 0, or an error number: ETIMEDOUT, EAGAIN, EDEADLK. The caller may wait (see may_wait()).
int lock_for_reading(pthread_rwlock_t* l, deadline until) noexcept;
int lock_for_writing(pthread_rwlock_t* l, deadline until) noexcept;

}  // namespace tendril::posix::shared_rwlock
