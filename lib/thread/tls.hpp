// The thread-local storage of fibers that stand for threads. Each has a block made by the C
// library, with a thread's descriptor in it, so that errno, __thread and thread_local variables,
// the locale, malloc's caches and pthread_self() are the thread's own without further help.
//
// glibc_probe.hpp finds out what has to be known of the C library for that.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/arch/arch.hpp"
#include "base/deadline.hpp"
#include "thread/glibc_probe.hpp"
#include "thread/signal_state.hpp"

namespace tendril::core {

struct identity;

// The storage that a fiber runs on: its kernel thread's, or one of its own. The fibers that a
// thread spawns share the thread's storage.
struct thread_storage {
  void* pointer = nullptr;        // the thread pointer while they run
  fiber** current = nullptr;      // the address of `current` in this storage
  std::uint32_t float_flags = 0;  // saved while another one runs: see fenv(3)
  // its rights to memory with protection keys, saved while another one runs (if switches carry
  // them)
  std::uint32_t protection = 0;
  // its user and groups, if they differ from the other threads'; from malloc()
  core::identity* identity = nullptr;
  // the processor time that has been attributed to it so far: see count_cpu_time
  std::atomic<nanoseconds> cpu_time{0};
  // Reasons why the thread must stay on its kernel thread: what the kernel keeps there for it.
  std::atomic<std::uint32_t> bound{0};
  nanoseconds moved_at = 0;  // when it came to its hub; 0: it began there
  signal_state signals;
};

// What else each switch to another thread carries, from the time when the program first needs it.
enum carried : unsigned char {
  protection_rights = 1,  // there are protection keys, so threads' rights may differ
  cpu_time = 2,           // a thread has asked how much processor time it has used
  identities = 16,        // a thread has a user or groups of its own
  // the thread pointer must be set by a system call; known from the start
  system_call = 8,
};
[[gnu::visibility("hidden")]] extern std::atomic<unsigned char> switches_carry;
inline bool switches_carry_any(unsigned char what) noexcept {
  return switches_carry.load(std::memory_order_relaxed) & what;
}

namespace tls {

// The most that the C library places on a thread's own stack; and what the sizes of its stacks are
// rounded down to a multiple of.
std::size_t size_on_stack() noexcept;
std::size_t alignment() noexcept;
// How many fibers are inside make(), renew() or drop(). One of them may have been preempted while
// it holds the loader's lock, so while this is not zero, no kernel thread can be made without
// letting those fibers run.
extern std::atomic<int> amid_loader;

// The size of a block, including any alignment.
std::size_t block_size() noexcept;
// Makes a block in the zeroed memory [p, p + block_size()), in the state of a new thread, and
// returns its thread pointer; null if there is no memory. Any thread.
void* make(void* p) noexcept;
// Returns a block to the state of a new thread, but keeps the C library's caches (malloc's).
// Returns false if there is no memory.
bool renew(void* pointer) noexcept;
// For the runtime's kernel threads on which fibers run (carriers, scheduler/crew.hpp): the C
// library's setuid() and its kin would wait for ever for such a thread to answer, since their
// signal handler answers for the thread that the thread pointer names, which is the fiber's. They
// pass over threads that are about to exit; from now on this one is marked as such.
void pass_over_in_setuid(void* pointer) noexcept;
// Frees what the C library allocated for the block. The block's own memory belongs to the caller.
void drop(void* pointer) noexcept;
// From now on several kernel threads make blocks at the same time.
extern std::atomic<bool> concurrent;
// From now on there are several threads. Until then the C library and libstdc++ omit locks and
// atomic operations.
void several() noexcept;
// To be called first on the new thread's own stack, once the thread pointer is set.
void begin() noexcept;
// Runs the destructors of thread_local objects, then those of pthread keys, as at a thread's end.
// May run the program's code. To be called on the thread itself.
void end() noexcept;

// The C library's list of the robust mutexes that the thread holds; for kernel threads the kernel
// knows it from set_robust_list(2). Null: unknown.
void* robust_list(void* pointer) noexcept;

// Between these calls the C library's list of threads stays as it is: for a fork, and for calls in
// which the C library walks the list. To be called where neither a handler nor the tick can come.
void lock_list() noexcept;
void unlock_list() noexcept;
// In a forked child: makes sure that its new threads get other numbers than those of its siblings.
void other_tids() noexcept;
// The number by which the C library knows the thread (as a lock's owner, from gettid): unique, and
// never a number of the kernel's.
int* tid(void* pointer) noexcept;
// ask_to_cancel() records a request as the C library's pthread_cancel does. cancel_due(): whether
// the thread was asked to cancel, has cancellation enabled, and is not exiting yet.
void ask_to_cancel(void* pointer) noexcept;
inline bool cancel_due(void* pointer) noexcept {
  std::uint32_t asked = cancels.requested(pointer).load(std::memory_order_acquire);
  return (asked & cancel_facts::all) == cancel_facts::cancelled &&
         !cancels.disabled.is_set(pointer);
}
// A cheap test: false means that nobody has asked to cancel the thread; true must be confirmed by
// cancel_due().
inline bool cancel_asked(void* pointer) noexcept {
  return cancels.requested(pointer).load(std::memory_order_relaxed) & cancel_facts::cancelled;
}
inline bool cancels_at_once(void* pointer) noexcept { return cancels.asynchronous.is_set(pointer); }
bool ends_early(void* pointer) noexcept;  // it was asked to cancel, or is exiting
// The address in another block of the variable that is at `mine` in the running block's static
// part.
template <class T>
T* other(void* pointer, T* mine) noexcept {
  return reinterpret_cast<T*>(
      static_cast<char*>(pointer) +
      (reinterpret_cast<char*>(mine) - static_cast<char*>(arch::thread_pointer())));
}

}  // namespace tls

}  // namespace tendril::core
