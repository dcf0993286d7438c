// Threads that are fibers: what there is to know of one, beside what its fiber and its storage
// know.
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
  core::thread_storage storage;  // its own; the main thread's is its hub's
  core::stack stack;             // size 0: the program's, or the main thread's
  void* allocated = nullptr;     // what holds this object, if not the stack does

  void* (*start)(void*) = nullptr;
  void* argument = nullptr;
  void* result = nullptr;
  bool exits = false;  // by pthread_exit, which said with what result

  // How its life goes on, also a futex for who waits for its end.
  enum : std::uint32_t {
    ended = 1,  // it has left its stack for good
    detached = 2,
    joined = 4,
    free_of_fiber = 8,  // its fiber, which lies beside it, is gone, or was not made yet
  };
  std::atomic<std::uint32_t> life{free_of_fiber};
  std::atomic<thread*> joiner{nullptr};  // who waits for its end
  thread* next_idle = nullptr;
  enum : std::uint8_t { just, one_round, trimmed } idle_for = just;

  // What it was created with, for pthread_getattr_np and its kin.
  void* stack_address = nullptr;
  std::size_t stack_size = 0;
  std::size_t guard_size = 0;
  cpu_set_t* processors = nullptr;  // those it asked for; null: all that the process has
  bool explicit_scheduling = false;
  int policy = SCHED_OTHER;
  int priority = 0;
  core::nanoseconds user_time = 0, system_time = 0;  // what getrusage() last said
  // somebody has asked for its CPU clock, and it is in a list of such
  bool clock_is_known = false;
  thread* next_known_clock = nullptr;
  bool named = false;  // it has been given a name, which is its fiber's

  // The main thread is the kernel's.
  bool is_fiber() const noexcept { return stack.size || allocated; }
};

// Threads that have not ended, the main thread counted. A futex.
extern std::atomic<std::uint32_t> living;
extern thread main_thread;
// The hub on which the program's threads live: the main thread's; null: there are none yet.
extern std::atomic<hub*> threads_home;

// What the other families do when threads begin and end, each on the thread itself.
struct thread_hooks {
  void (*first)() noexcept;          // the program is about to make its first thread
  void (*begin)(hub&) noexcept;      // from here on there may be several
  void (*leaves)(thread&) noexcept;  // it has returned, or is cancelled; its destructors follow
  void (*ends)(thread&) noexcept;    // its destructors have run
};
extern std::atomic<const thread_hooks*> hooks;  // set before there are threads

// The running thread goes on in a child of clone(2) without CLONE_VM, of which the C library knows
// nothing.
void bare_child_begins(bool shares_descriptors) noexcept;

// Whether the kernel would let a thread have that policy and priority: 0, or an error number.
int scheduling_allowed(int policy, const sched_param* p) noexcept;
// What the running thread has of them.
void own_scheduling(int& policy, int& priority) noexcept;
// The processors that the thread is to run on: 0, EINVAL (none of them can be had), ENOMEM.
int set_processors(thread* t, std::size_t size, const cpu_set_t* wanted) noexcept;
// As the kernel has them (-errno); the C library has no functions for them.
long sched_setattr(pid_t tid, const void* attributes, unsigned flags) noexcept;
long sched_getattr(pid_t tid, void* attributes, unsigned size, unsigned flags) noexcept;
// The C library's function hides how many bytes the kernel fills in, and clears the others.
long sched_getaffinity_by_number(pid_t tid, std::size_t size, cpu_set_t* set) noexcept;

// The thread that a pthread_t names; null: a thread of the kernel's, beside the fibers.
thread* thread_of(pthread_t id) noexcept;

// The living thread with that gettid(); null: none of ours.
thread* thread_of(int tid) noexcept;
// The system call of that number, if it changes the identity of the calling thread alone
// (SYS_setresuid, SYS_setfsuid, SYS_capset ...), made for the running thread. False: it is another
// one.
bool changes_identity(long& result, long number, long a, long b, long c) noexcept;

// In a forked child, where only the running thread is left.
void threads_after_fork() noexcept;

}  // namespace tendril::posix
