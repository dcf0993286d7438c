// Gives the memory that ended fibers and threads of one hub have left back to the system, a little
// at a time.
#pragma once

#include "fiber/fiber.hpp"

namespace tendril::core {

class memory_trim {
 public:
  // Gives back some memory that was not needed for a while, if that is due. Returns when to call it
  // again: INT64_MAX if there is nothing more to give back.
  nanoseconds run(fiber_home& home, nanoseconds now) noexcept;
  // Whether there is memory that has not been given back yet: then the hub wakes for run() even if
  // no fiber has a deadline.
  bool is_needed(const fiber_home& home) const noexcept {
    return home.idle || left_some_ || home.stacks.left_memory();
  }
  // A thread has ended.
  void note_left() noexcept { left_some_ = true; }
  // Does the same for the memory of ended threads; set once there are threads.
  stack_pool::trimmed (*of_threads)() noexcept = nullptr;

 private:
  nanoseconds due_ = 0;
  bool left_some_ = false;  // as of the last round
};

}  // namespace tendril::core
