// Waiting for a futex of the kernel's, which other processes share: locks with
// PTHREAD_PROCESS_SHARED, and robust ones, which the kernel itself lets go of when their owner
// dies.
//
// Each waiting fiber is one entry in the kernel, so that FUTEX_WAKE's count and limit hold. A
// helper thread keeps up to 127 of them there with one call, futex_waitv(2) (from Linux 5.16 on);
// where there is none, each has a helper of its own.
#pragma once

#include "posix/common/futex.hpp"

namespace tendril::posix::kernel_futex {

// Waits while the word is `expected`. 0: woken, or perhaps not: futex_waitv tells one index only,
// so those that were in the kernel with it look again. -EAGAIN: the word is another. -EFAULT;
// -ETIMEDOUT, -ECANCELED, -EINTR as `e` says.
//
// For words that say by their value whether to go on waiting. A wake-up that leaves the word as it
// is may come while entries are on their way back to the kernel, and is lost then.
//
// `out`, if there is one, is called once: when the entry is out of the kernel, perhaps long before
// the fiber runs, and then on a helper. With it, handlers that have run end the wait by a 0, too.
struct out_of_kernel {
  void (*call)(void* argument) noexcept = nullptr;
  void* argument = nullptr;
};
int wait(const std::atomic<std::uint32_t>* word, std::uint32_t expected, deadline until,
         futex::ends e, out_of_kernel out = {}) noexcept;

// Whether few helpers are enough.
bool has_batches() noexcept;

inline int wake(const void* word, int n) noexcept {
  return int(sys::call(SYS_futex, word, FUTEX_WAKE, n, 0, 0, 0));
}

// A forked child has no waiters.
void after_fork() noexcept;

}  // namespace tendril::posix::kernel_futex
