// Robust mutexes of fibers: the next who locks one whose owner has ended is told so (EOWNERDEAD).
#pragma once

#include <pthread.h>

#include "posix/common/cooperate.hpp"

namespace tendril::posix::robust {

// Whether the running code locks them here; else the C library does, which knows kernel threads
// only.
bool here() noexcept;

// As the pthread functions of that name, for here().
int lock(pthread_mutex_t* m, deadline until, bool only_tries) noexcept;
int unlock(pthread_mutex_t* m) noexcept;

// The running thread has ended: what it still holds goes to the next one that wants it.
void thread_ends() noexcept;

}  // namespace tendril::posix::robust
