// Which of the program's threads is running, and whether the runtime handles the process's threads
// and locks. Used by all families of calls.
#pragma once

#include <atomic>
#include <cstdint>

namespace tendril::posix {

struct thread;  // posix/threads/thread.hpp

// The running thread, if it is a fiber that stands for a thread (or the main thread, once such
// threads exist).
extern __thread thread* this_thread __attribute__((tls_model("initial-exec")));

// The thread number by which locks identify their owner: gettid(), or the number that a fiber has
// instead.
extern __thread int known_tid __attribute__((tls_model("initial-exec")));  // 0: not looked up yet
int look_up_own_tid() noexcept;
// The thread pointer of the thread that continues in a child of a bare clone(2). gettid() returns
// the child's number there, but locks know the thread by its number in the parent, which the C
// library leaves unchanged.
extern const void* renumbered;
inline int own_tid() noexcept { return known_tid ? known_tid : look_up_own_tid(); }

// Whether threads become fibers in this process. Becomes false when the first thread shows that
// they cannot.
extern std::atomic<bool> threads_are_fibers;

// Whether waiters for locks wait in our table (posix/common/futex.hpp), fibers and kernel threads
// alike, or in the C library. Decided before the first lock is taken, because the C library cannot
// wake waiters in our table. True in a program under the shim whose threads are fibers, and in a
// program that links libtendril ahead of the C library (posix/names.cpp).
extern std::atomic<bool> locks_are_ours;
// They were ours until the first thread turned out to be a kernel thread; a lock taken before that
// may still be held.
extern std::atomic<bool> locks_were_ours;

}  // namespace tendril::posix
