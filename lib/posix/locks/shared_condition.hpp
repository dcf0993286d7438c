// Conditions that processes share, waited for by fibers.
#pragma once

#include <pthread.h>

#include "posix/common/cooperate.hpp"

namespace tendril::posix::shared_condition {

// Whether wait() knows how this C library keeps who waits.
bool known() noexcept;

// As pthread_cond_timedwait(3).
int wait(pthread_cond_t* c, pthread_mutex_t* m, deadline until) noexcept;

}  // namespace tendril::posix::shared_condition
