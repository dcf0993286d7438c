// In place of lib/base/atomic.hpp: the model checker's atomics.
#pragma once

#include "checker.hpp"

namespace tendril::core {

using models::atomic;
using models::atomic_ref;

}  // namespace tendril::core
