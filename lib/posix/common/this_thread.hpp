// Which of the program's threads the calling code is, and whose the threads and locks of the
// process are: known to all families.
#pragma once

#include <atomic>
#include <cstdint>

namespace tendril::posix {

struct thread;  // posix/threads/thread.hpp

// The running thread, if it is a fiber that stands for one (or the main thread, once there are
// such).
extern __thread thread* this_thread __attribute__((tls_model("initial-exec")));

// The number by which locks know their owner: gettid(), or what stands for it.
extern __thread int known_tid __attribute__((tls_model("initial-exec")));  // 0: not asked for yet
int look_up_own_tid() noexcept;
// The pointer of the thread that goes on in a child of a bare clone(2): there its number is the
// process's, though locks know it by that of its parent's, which the C library leaves where it
// stands.
extern const void* renumbered;
inline int own_tid() noexcept { return known_tid ? known_tid : look_up_own_tid(); }

// Whether threads become fibers in this process. It turns to false when the first thread shows that
// they cannot.
extern std::atomic<bool> threads_are_fibers;

// Whether locks are waited for in our table (posix/common/futex.hpp), by fibers and kernel threads
// alike, or are the C library's. Decided before the first lock is taken: the C library cannot wake
// who waits in our table. Ours are those of a program under the shim whose threads are fibers, and
// of one that links libtendril ahead of the C library (posix/names.cpp).
extern std::atomic<bool> locks_are_ours;
// They were, until the first thread turned out to be a kernel thread: a lock may be held since.
extern std::atomic<bool> locks_were_ours;

}  // namespace tendril::posix
