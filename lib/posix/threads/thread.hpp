// Threads that are fibers: what the runtime knows of a thread besides its fiber and its storage.
#pragma once

#include <sched.h>
#include <signal.h>

#include <tendril/pthread.hpp>

#include "posix/common/cooperate.hpp"
#include "posix/common/this_thread.hpp"
#include "thread/tls.hpp"

namespace tendril::posix {

struct thread {
  pthread_t id = 0;
  fiber* runs = nullptr;
  core::thread_storage storage;  // its own; the main thread uses its hub's
  core::stack stack;             // size 0: on the program's stack, or the main thread
  void* allocated = nullptr;     // the allocation that holds this object, if it is not on `stack`

  void* (*start)(void*) = nullptr;
  void* argument = nullptr;
  void* result = nullptr;
  bool exits = false;  // it called pthread_exit, which has set `result`

  // The state of its life; also a futex for those who wait for its end.
  enum : std::uint32_t {
    ended = 1,  // it has left its stack for good
    detached = 2,
    joined = 4,
    free_of_fiber = 8,  // its fiber, which lies beside this object, is destroyed or not made yet
  };
  std::atomic<std::uint32_t> life{free_of_fiber};
  std::atomic<thread*> joiner{nullptr};  // the thread that waits for its end
  thread* next_idle = nullptr;
  thread* next_living = nullptr;  // see thread_of(int)
  thread* previous_living = nullptr;
  enum : std::uint8_t { just, one_round, trimmed } idle_for = just;

  // What it was created with; reported by pthread_getattr_np and related calls.
  void* stack_address = nullptr;
  std::size_t stack_size = 0;
  std::size_t guard_size = 0;
  cpu_set_t* processors = nullptr;  // the affinity that it was given; null: all of the process's
  bool explicit_scheduling = false;
  int policy = SCHED_OTHER;
  int priority = 0;
  core::nanoseconds user_time = 0, system_time = 0;  // what getrusage() last reported
  // its CPU clock was asked for, so it is in the list of such threads
  bool clock_is_known = false;
  thread* next_known_clock = nullptr;

  // False for the main thread, which is a kernel thread.
  bool is_fiber() const noexcept { return stack.size || allocated; }
};

// The number of threads that have not ended, including the main thread. A futex.
extern std::atomic<std::uint32_t> living;
extern thread main_thread;
// Whether the program has made a thread that is a fiber.
extern std::atomic<bool> threads_begun;
// Whether the running fiber is one of the program's threads, or on the storage of one.
inline bool among_threads() noexcept {
  return core::current && core::current->home->several_threads;
}

// What the other families do when threads begin and end; called on the thread itself.
struct thread_hooks {
  void (*first)() noexcept;          // the program is about to make its first thread
  void (*begin)(hub&) noexcept;      // there may be several threads from now on
  void (*leaves)(thread&) noexcept;  // it has returned, or is cancelled; its destructors follow
  void (*ends)(thread&) noexcept;    // its destructors have run
};
extern std::atomic<const thread_hooks*> hooks;  // set before there are threads

// To be called when the running thread continues in a child of clone(2) without CLONE_VM, of which
// the C library knows nothing.
void bare_child_begins(bool shares_descriptors) noexcept;

// Whether the kernel would give a thread that policy and priority: 0, or an error number.
int scheduling_allowed(int policy, const sched_param* p) noexcept;
// The running thread's policy and priority.
void own_scheduling(int& policy, int& priority) noexcept;
// As the kernel names a thread that it makes. (The fiber stores the name.)
void name_after_creator(thread& t) noexcept;
// Sets the processors that the thread asks to run on: 0, EINVAL (none is available), ENOMEM.
int set_processors(thread* t, std::size_t size, const cpu_set_t* wanted) noexcept;
// As the system calls (-errno); the C library has no functions for them.
long sched_setattr(pid_t tid, const void* attributes, unsigned flags) noexcept;
long sched_getattr(pid_t tid, void* attributes, unsigned size, unsigned flags) noexcept;
// As the system call, which returns how many bytes it has filled in; the C library's function hides
// that and clears the others.
long sched_getaffinity_by_number(pid_t tid, std::size_t size, cpu_set_t* set) noexcept;

// The thread that a pthread_t names; null: a kernel thread without fibers.
thread* thread_of(pthread_t id) noexcept;

// The living thread whose gettid() this is; null: none of ours.
thread* thread_of(int tid) noexcept;
// The thread is about to begin, or has ended.
void count_living(thread& t) noexcept;
void count_ended(thread& t) noexcept;
// If `number` is a system call that changes the identity of the calling thread alone
// (SYS_setresuid, SYS_setfsuid, SYS_capset ...), makes it for the running thread. False: it is
// another call.
bool changes_identity(long& result, long number, long a, long b, long c) noexcept;

// To be called in a forked child, where only the running thread is left.
void threads_after_fork() noexcept;

}  // namespace tendril::posix
