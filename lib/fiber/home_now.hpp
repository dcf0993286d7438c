// The home of a fiber that another kernel thread may be moving.
#pragma once

#include <tendril/detail/core.hpp>

#include "base/atomic.hpp"

namespace tendril::core {

// A thread that finds its own home there also sees what the former home's thread did before.
inline fiber_home* home_now(const fiber_head* f) noexcept {
  return atomic_ref(const_cast<fiber_head*>(f)->home).load(std::memory_order_acquire);
}

}  // namespace tendril::core
