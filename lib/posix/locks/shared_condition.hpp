// Conditions that processes share: how fibers wait for them.
#pragma once

#include <pthread.h>

#include "posix/common/cooperate.hpp"

namespace tendril::posix::shared_condition {

// Whether wait() knows how this C library stores waiters.
bool known() noexcept;

// As pthread_cond_timedwait(3).
int wait(pthread_cond_t* c, pthread_mutex_t* m, deadline until) noexcept;

}  // namespace tendril::posix::shared_condition
