// The attributes with which a thread is created.
#pragma once

#include "posix/threads/thread.hpp"

namespace tendril::posix {

// The parts of an attribute object that we use.
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

// The attributes of a new thread. What is not given comes from the process's defaults or from the
// creator.
void attributes_for(const pthread_attr_t* given, attributes& a) noexcept;
// Returns EINVAL for sizes that the C library refuses; rounds the others as the C library does.
int refused_sizes(attributes& a) noexcept;

}  // namespace tendril::posix
