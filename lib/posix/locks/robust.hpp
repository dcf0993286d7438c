// Robust mutexes for fibers: if the owner ends, the next one to lock the mutex gets EOWNERDEAD.
#pragma once

#include <pthread.h>

#include "posix/common/cooperate.hpp"

namespace tendril::posix::robust {

// Whether robust mutexes of the running code are handled here. Otherwise the C library handles
// them, which knows only kernel threads.
bool here() noexcept;

// As the pthread functions of the same name. Requires here().
int lock(pthread_mutex_t* m, deadline until, bool only_tries) noexcept;
int unlock(pthread_mutex_t* m) noexcept;

// To be called when the running thread has ended: marks the mutexes that it still holds.
void thread_ends() noexcept;

}  // namespace tendril::posix::robust
