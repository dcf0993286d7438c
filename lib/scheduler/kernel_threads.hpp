// The kernel threads of the process, as far as the runtime knows them.
#pragma once

#include "base/atomic.hpp"

namespace tendril::core {

struct kernel_threads {
  atomic<int> hubs{0};     // that have a hub, counted by hub_registry
  atomic<int> helpers{0};  // of helper_pool
  // how many forks lie between the first process and this one
  atomic<unsigned> generation{0};

  // Whether the process has no other kernel threads than the caller and helpers.
  bool is_alone() const noexcept;
};

extern constinit kernel_threads known_threads;

}  // namespace tendril::core
