// Helper threads: for the few calls that cannot be made without blocking the kernel thread (name
// look-ups through nsswitch, disk reads, record locks). The fiber parks, a helper makes the call,
// and its end unparks the fiber.
#pragma once

#include <stdlib.h>

#include <atomic>

#include "fiber/fiber.hpp"
#include "thread/identity.hpp"

namespace tendril::core {

struct helper_job {
  enum : int { queued, running, ended, left };

  void (*run)(helper_job&) noexcept = nullptr;  // on a helper thread
  // frees a job that was left to the helper; null: it is never left
  void (*abandon)(helper_job&) noexcept = nullptr;
  bool interruptible = false;     // run() makes system calls that stop_on_helper() may interrupt
  std::atomic<bool> stop{false};  // do not repeat an interrupted system call
  fiber* who = nullptr;
  // the identity of `who`, if threads' identities differ; from malloc()
  identity* as = nullptr;
  std::atomic<int> state{queued};
  std::atomic<int> tid{0};  // the helper's
  helper_job* next = nullptr;

  helper_job() noexcept = default;
  helper_job(const helper_job&) = delete;
  ~helper_job() { free(as); }

  bool done() const noexcept { return state.load(std::memory_order_acquire) == ended; }
};

// Starts a kernel thread of the runtime's own, detached, and with all signals blocked but the one
// that setuid(3) needs: handlers are the program's and run on its own threads. Before that, opens
// the hub's descriptors, which would take long with a second kernel thread. stack_size 0: the C
// library's choice. Returns false if the system allows no more threads.
bool start_own_thread(void* (*run)(void*), void* argument, std::size_t stack_size = 0) noexcept;

// Gives the job to a helper thread. There are as many helpers as have been needed at once; idle
// ones end after ten seconds. The end of the job unparks the running fiber. If no helper can be
// made, the job is done here and now.
void start_on_helper(helper_job& job) noexcept;
// Idle helpers end now, and busy ones when they become idle, until there is another job.
void end_idle_helpers() noexcept;
// Takes the job back if it has not begun, or interrupts its system calls. When this returns, the
// job has ended or will never begin.
void stop_on_helper(helper_job& job) noexcept;
// Leaves the job to the helper, which calls its abandon() after the run. Returns false if the job
// has already ended: then it stays the caller's.
bool leave_to_helper(helper_job& job) noexcept;

// In a forked child, which has no helpers.
void helpers_after_fork() noexcept;

}  // namespace tendril::core
