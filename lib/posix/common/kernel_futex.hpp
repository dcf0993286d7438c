// Waits on the kernel's futexes, which processes share: for locks with PTHREAD_PROCESS_SHARED, and
// for robust locks, which the kernel itself releases when their owner dies.
//
// Each waiting fiber has its own entry in the kernel, so that FUTEX_WAKE's count is right. A helper
// thread keeps up to 127 of them there by one futex_waitv(2) (from Linux 5.16 on). Without that
// call, each waiter has its own helper.
#pragma once

#include "posix/common/futex.hpp"

namespace tendril::posix::kernel_futex {

// Waits while the word equals `expected`. 0: woken, possibly spuriously: futex_waitv reports only
// one index, so the other waiters that were in the kernel with it must check again. -EAGAIN: the
// word has another value. -EFAULT; -ETIMEDOUT, -ECANCELED, -EINTR as `e` says.
//
// Only for words whose value says whether to keep waiting: a wake-up that does not change the word
// is lost if it comes while the entries are on their way back to the kernel.
//
// `out`, if given, is called once when the entry has left the kernel, possibly on a helper thread
// and long before the fiber runs. With `out`, a handler that has run ends the wait, too, with 0.
struct out_of_kernel {
  void (*call)(void* argument) noexcept = nullptr;
  void* argument = nullptr;
};
int wait(const std::atomic<std::uint32_t>* word, std::uint32_t expected, deadline until,
         futex::ends e, out_of_kernel out = {}) noexcept;

// Whether futex_waitv is available, so that a few helpers suffice.
bool has_batches() noexcept;

inline int wake(const void* word, int n) noexcept {
  return int(sys::call(SYS_futex, word, FUTEX_WAKE, n, 0, 0, 0));
}

// A forked child has no waiters.
void after_fork() noexcept;

}  // namespace tendril::posix::kernel_futex
