// Helper threads: for the few calls that block the kernel thread whatever one does (name look-ups through
// nsswitch, disk reads, record locks). The fiber parks; a helper makes the call; its end unparks the fiber.
#pragma once

#include <atomic>

#include "fiber.hpp"

namespace tendril::core {

struct helper_job {
  void (*run)(helper_job&) noexcept = nullptr;      // on a helper thread
  void (*abandon)(helper_job&) noexcept = nullptr;  // frees the job; null: it lives in the frame of the waiter
  fiber* who = nullptr;
  std::atomic<int> state{0};  // 0: to be done, 1: done, 2: nobody waits for it any more
  helper_job* next = nullptr;
};

// Gives the job to a helper thread, of which there are as many as are needed at once (idle ones end after ten
// seconds). Where no thread can be made, the job is done here and now.
void start_on_helper(helper_job& job) noexcept;
// Parks until the job is done (`unparked`), or, if `abandonable`, until the fiber is interrupted or a signal
// handler ran.
wake wait_for_helper(helper_job& job, bool abandonable) noexcept;
// Gives the job up: its abandon() is called when it is done. False if it was done already, and stays the caller's.
bool leave_to_helper(helper_job& job) noexcept;

}  // namespace tendril::core
