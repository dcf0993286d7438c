// Sending a signal to one thread.
#pragma once

#include "posix/threads/thread.hpp"

namespace tendril::posix {

// Sends the thread a signal as the kernel would. 0 or -EAGAIN.
int send_signal(thread& t, int signal, const siginfo_t& info) noexcept;

}  // namespace tendril::posix
