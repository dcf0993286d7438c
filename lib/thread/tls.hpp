// The thread-local storage of fibers that stand for threads: a block of the C library's own making
// for each, with a thread's descriptor in it, so that errno, __thread and thread_local variables,
// the locale, malloc's caches and pthread_self() are that thread's own without anybody's help.
//
// What is known of the C library for that: glibc_probe.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/arch/arch.hpp"
#include "base/deadline.hpp"
#include "thread/glibc_probe.hpp"
#include "thread/signal_state.hpp"

namespace tendril::core {

struct identity;

// Which storage a fiber runs on: its kernel thread's, or one of its own. The fibers that a thread
// spawns share its.
struct thread_storage {
  void* pointer = nullptr;        // what the thread pointer is while they run
  fiber** current = nullptr;      // where this storage has the variable `current`
  std::uint32_t float_flags = 0;  // while another one runs: see fenv(3)
  // its rights to memory with protection keys, while another one runs; once carried
  std::uint32_t protection = 0;
  // its user and groups, if they are not the other threads'; from malloc()
  core::identity* identity = nullptr;
  // what it has used, as far as it has been counted: see count_cpu_time
  std::atomic<nanoseconds> cpu_time{0};
  signal_state signals;
};

// What else each switch to another thread carries, from when the program first needs it.
enum carried : unsigned char {
  protection_rights = 1,  // there are protection keys, so that rights may differ
  cpu_time = 2,           // some thread has asked how much of the processor it has used
  identities = 16,        // some thread has a user or groups of its own
  // programs cannot set the thread pointer by themselves here: from the start
  system_call = 8,
};
[[gnu::visibility("hidden")]] extern std::atomic<unsigned char> switches_carry;
inline bool switches_carry_any(unsigned char what) noexcept {
  return switches_carry.load(std::memory_order_relaxed) & what;
}

namespace tls {

// What the C library puts of a thread on the thread's own stack, at most; and to what its stacks'
// sizes are rounded down.
std::size_t size_on_stack() noexcept;
std::size_t alignment() noexcept;
// How many fibers are amid one of make(), renew() and drop(), where they may have been made to give
// way with the loader's lock held: as long as it is not zero, no kernel thread can be made without
// letting them run.
extern std::atomic<int> amid_loader;

// The room that a block takes, any alignment included.
std::size_t block_size() noexcept;
// Makes a block in the zeroed memory [p, p + block_size()), as a new thread finds it, and returns
// its thread pointer; null: no memory. Any thread.
void* make(void* p) noexcept;
// Makes a block as a new thread finds it again, but keeps the C library's caches (malloc's). False:
// no memory.
bool renew(void* pointer) noexcept;
// Gives back what the C library allocated for the block, which itself is the caller's.
void drop(void* pointer) noexcept;
// From here on there are several threads: the C library and libstdc++ drop locks and atomics in a
// process with one.
void several() noexcept;
// To be called first on the new thread's own stack, with the thread pointer set.
void begin() noexcept;
// The destructors of thread_local objects, then those of pthread keys, as a thread's end has it.
// May run the program's code. To be called on the thread itself.
void end() noexcept;

// The C library's list of the robust mutexes that the thread holds: what set_robust_list(2) is told
// for a kernel thread. Null: not known.
void* robust_list(void* pointer) noexcept;

// In a forked child: its new threads' numbers are not those that its siblings give.
void other_tids() noexcept;
// The number by which the C library knows the thread (its locks' owners, gettid): unique, and no
// kernel's.
int* tid(void* pointer) noexcept;
// pthread_cancel, as the C library notes it. Whether the thread is to be cancelled, and lets that
// happen, now or at all.
void ask_to_cancel(void* pointer) noexcept;
inline bool cancel_due(void* pointer) noexcept {
  std::uint32_t asked = cancels.requested(pointer).load(std::memory_order_acquire);
  return (asked & cancel_facts::all) == cancel_facts::cancelled &&
         !cancels.disabled.is_set(pointer);
}
// False only if nobody has asked for it.
inline bool cancel_asked(void* pointer) noexcept {
  return cancels.requested(pointer).load(std::memory_order_relaxed) & cancel_facts::cancelled;
}
inline bool cancels_at_once(void* pointer) noexcept { return cancels.asynchronous.is_set(pointer); }
bool ends_early(void* pointer) noexcept;  // it was asked to, or is exiting
// Where another block has the variable that is at `mine` in the running one's static part.
template <class T>
T* other(void* pointer, T* mine) noexcept {
  return reinterpret_cast<T*>(
      static_cast<char*>(pointer) +
      (reinterpret_cast<char*>(mine) - static_cast<char*>(arch::thread_pointer())));
}

}  // namespace tls

}  // namespace tendril::core
