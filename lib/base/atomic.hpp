// The atomics of the protocols between kernel threads. (tests/models has another file of this name,
// so that a model checker runs these protocols.)
#pragma once

#include <atomic>

namespace tendril::core {

using std::atomic;
using std::atomic_ref;

}  // namespace tendril::core
