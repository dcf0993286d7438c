#include "posix/locks/static_guard.hpp"

#include <errno.h>

#include <atomic>

#include "base/futex_lock.hpp"
#include "libc/real.hpp"
#include "posix/common/cancellation.hpp"
#include "posix/common/futex.hpp"
#include "posix/locks/ownership.hpp"

namespace tendril::posix {

namespace {

// libstdc++'s states, in the guard's first 32 bits.
constexpr std::uint32_t initialised = 1, in_progress = 1 << 8;

std::atomic<std::uint32_t>& word(static_guard* g) noexcept {
  return *reinterpret_cast<std::atomic<std::uint32_t>*>(g);
}

// The C++ run-time library's own. A program that calls ours has that library.
struct run_time_library {
  real_call<int(static_guard*)> acquire{"__cxa_guard_acquire", next_lock};
  real_call<void(static_guard*)> release{"__cxa_guard_release", next_lock};
  real_call<void(static_guard*)> abort{"__cxa_guard_abort", next_lock};
};
constinit run_time_library library;

// Who initialises what. libstdc++ knows threads only: in a process that it takes for
// single-threaded, it regards a second fiber as the first one that begins again, and throws
// recursive_init_error. What finds no room here is left to libstdc++.
struct initialisation {
  static_guard* guard = nullptr;
  const void* by = nullptr;
};
constinit initialisation under_way[64];
constinit core::spin_lock under_way_lock;

void begin(static_guard* g) noexcept {
  core::spin_guard hold(under_way_lock);
  for (initialisation& i : under_way) {
    if (i.guard) continue;
    i = {g, core::current};
    return;
  }
}

void end(static_guard* g) noexcept {
  core::spin_guard hold(under_way_lock);
  for (initialisation& i : under_way) {
    if (i.guard == g) i = {};
  }
}

bool by_another(static_guard* g) noexcept {
  core::spin_guard hold(under_way_lock);
  for (const initialisation& i : under_way) {
    if (i.guard == g) return i.by != core::current;
  }
  return false;
}

}  // namespace

int cxa_guard_acquire(static_guard* g) {
  std::atomic<std::uint32_t>& w = word(g);
  std::uint32_t s = w.load(std::memory_order_acquire);
  if (s & initialised) return 0;
  if (!ours() || !core::current) return library.acquire(g);
  while ((s & in_progress) && by_another(g) && may_wait()) {
    if (futex::wait(&w, s, deadline::never(), futex::ends::by_wake) == -ECANCELED) act_on_cancel();
    s = w.load(std::memory_order_acquire);
    if (s & initialised) return 0;
  }
  int mine = library.acquire(g);
  if (mine) begin(g);
  return mine;
}

void cxa_guard_release(static_guard* g) noexcept {
  end(g);
  library.release(g);
  if (ours()) futex::wake(g, INT32_MAX);
}

void cxa_guard_abort(static_guard* g) noexcept {
  end(g);
  library.abort(g);
  if (ours()) futex::wake(g, INT32_MAX);
}

}  // namespace tendril::posix
