// Helper threads: for the few calls that block the kernel thread whatever one does (name look-ups
// through nsswitch, disk reads, record locks). The fiber parks; a helper makes the call; its end
// unparks the fiber.
#pragma once

#include <stdlib.h>

#include <atomic>

#include "fiber/fiber.hpp"
#include "thread/identity.hpp"

namespace tendril::core {

struct helper_job {
  enum : int { queued, running, ended, left };

  void (*run)(helper_job&) noexcept = nullptr;  // on a helper thread
  // frees the job when it was left; null: it is never left
  void (*abandon)(helper_job&) noexcept = nullptr;
  bool interruptible = false;     // run() makes system calls that stop_on_helper() may interrupt
  std::atomic<bool> stop{false};  // an interrupted system call is not to be made again
  fiber* who = nullptr;
  // what `who` is to the kernel, where threads differ in that; from malloc()
  identity* as = nullptr;
  std::atomic<int> state{queued};
  std::atomic<int> tid{0};  // the helper's
  helper_job* next = nullptr;

  helper_job() noexcept = default;
  helper_job(const helper_job&) = delete;
  ~helper_job() { free(as); }

  bool done() const noexcept { return state.load(std::memory_order_acquire) == ended; }
};

// Starts a kernel thread of the runtime's own, detached, with all signals blocked: handlers are the
// program's and run on its own threads. What takes long beside it is done before: the hub's
// descriptors are opened. stack_size 0: the C library's choice. False: the system has no more.
bool start_own_thread(void* (*run)(void*), void* argument, std::size_t stack_size = 0) noexcept;

// Gives the job to a helper thread, of which there are as many as are needed at once (idle ones end
// after ten seconds). Its end unparks the running fiber. Where no thread can be made, the job is
// done here and now.
void start_on_helper(helper_job& job) noexcept;
// Helpers that have nothing to do end now, and others as soon as they have not, until there is
// another job.
void end_idle_helpers() noexcept;
// Takes the job back if it has not begun, or interrupts its system calls: when this returns it has
// ended, or never will begin.
void stop_on_helper(helper_job& job) noexcept;
// Gives the job up: its abandon() is called when it has run. False if it has ended already, and
// stays the caller's.
bool leave_to_helper(helper_job& job) noexcept;

// In a forked child there are none yet.
void helpers_after_fork() noexcept;

}  // namespace tendril::core
