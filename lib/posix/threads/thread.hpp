// Threads that are fibers: what there is to know of one, beside what its fiber and its storage
// know.
#pragma once

#include <sched.h>
#include <signal.h>

#include <tendril/pthread.hpp>

#include "posix/common/cooperate.hpp"
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

// The running thread, if it is a fiber that stands for one (or the main thread, once there are
// such).
extern __thread thread* this_thread __attribute__((tls_model("initial-exec")));

// While it lives, cancellation waits, unless it is one that comes at any point.
class no_cancellation_point {
 public:
  no_cancellation_point() noexcept {
    if (this_thread && !cancels_at_once()) pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state_);
  }
  ~no_cancellation_point() {
    if (state_ >= 0) pthread_setcancelstate(state_, nullptr);
  }
  no_cancellation_point(const no_cancellation_point&) = delete;

 private:
  int state_ = -1;
};

// Threads that have not ended, the main thread counted. A futex.
extern std::atomic<std::uint32_t> living;

// The number by which locks know their owner: gettid(), or what stands for it.
extern __thread int known_tid __attribute__((tls_model("initial-exec")));  // 0: not asked for yet
int look_up_own_tid() noexcept;
// The running thread goes on in a child of clone(2) without CLONE_VM, of which the C library knows
// nothing.
void bare_child_begins(bool shares_descriptors) noexcept;
inline int own_tid() noexcept { return known_tid ? known_tid : look_up_own_tid(); }

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
// Sends it a signal as the kernel would. 0, -EAGAIN.
int send_signal(thread& t, int signal, const siginfo_t& info) noexcept;

// The runtime's own signal has come: puts off what the program asked for if that was for a thread's
// timer (SIGEV_THREAD_ID), and says for which thread. False: it was for no timer.
bool thread_timer_expired(const siginfo_t& tick, core::thread_storage*& target) noexcept;
// The thread has ended; the process is a forked child, whose timers are its parent's.
void timers_lose_thread(const core::thread_storage& s) noexcept;
void timers_are_not_inherited() noexcept;

// As timers_lose_thread; as timers_are_not_inherited.
void clocks_lose_thread(thread& t) noexcept;
void clocks_are_not_inherited() noexcept;

// The system call of that number, if it changes the identity of the calling thread alone
// (SYS_setresuid, SYS_setfsuid, SYS_capset ...), made for the running thread. False: it is another
// one.
bool changes_identity(long& result, long number, long a, long b, long c) noexcept;

// Whether threads become fibers in this process. It turns to false when the first thread shows that
// they cannot.
extern std::atomic<bool> threads_are_fibers;

}  // namespace tendril::posix
