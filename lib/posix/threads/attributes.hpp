// What a thread is created with.
#pragma once

#include "posix/threads/thread.hpp"

namespace tendril::posix {

// What an attribute object says, as far as it concerns us.
struct attributes {
  std::size_t stack_size = 0, guard_size = 0;
  void* stack = nullptr;
  bool detached = false;
  bool explicit_scheduling = false;
  int policy = SCHED_OTHER, priority = 0;
  bool has_mask = false, has_processors = false;
  std::uint64_t mask = 0;
  cpu_set_t processors;
};

// Those of a thread that is to be made: what it is not told is as the process's default has it, or
// its creator.
void attributes_for(const pthread_attr_t* given, attributes& a) noexcept;
// Sizes that the C library refuses, and as it has the others.
int refused_sizes(attributes& a) noexcept;

}  // namespace tendril::posix
