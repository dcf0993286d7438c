#include "posix/locks/static_guard.hpp"

#include <errno.h>
#include <linux/futex.h>

#include <atomic>
#include <new>

#include "posix/common/cancellation.hpp"
#include "posix/common/futex.hpp"
#include "posix/locks/ownership.hpp"

namespace tendril::posix {

namespace {

// libstdc++'s states, in the guard's first 32 bits, so that its own functions may work on the same
// guard. They are not called: a library that was loaded for itself (java's) has a C++ run-time
// library that nobody else finds.
constexpr std::uint32_t initialised = 1, in_progress = 1 << 8, has_waiters = 1 << 16;

std::atomic<std::uint32_t>& word(static_guard* g) noexcept {
  return *reinterpret_cast<std::atomic<std::uint32_t>*>(g);
}

// Which fiber initialises what, to distinguish a fiber that waits from one that has come back to
// what it is initialising, and would wait for ever. What finds no room here is not reported.
struct initialisation {
  static_guard* guard = nullptr;
  const void* by = nullptr;
};
constinit initialisation under_way[64];
constinit core::spin_lock under_way_lock;

// Requires the lock. Null as guard: a free place.
initialisation* find(static_guard* g) noexcept {
  for (initialisation& i : under_way) {
    if (i.guard == g) return &i;
  }
  return nullptr;
}

void begin(static_guard* g) noexcept {
  if (!core::current) return;
  core::deferring_spin_guard held(under_way_lock);
  if (initialisation* i = find(nullptr)) *i = {g, core::current};
}

void end(static_guard* g) noexcept {
  if (!core::current) return;
  core::deferring_spin_guard held(under_way_lock);
  if (initialisation* i = find(g)) *i = {};
}

bool is_own(static_guard* g) noexcept {
  core::deferring_spin_guard held(under_way_lock);
  initialisation* i = find(g);
  return i && i->by == core::current;
}

// Ends the initialisation, and wakes fibers and kernel threads that wait for that.
void finish(static_guard* g, std::uint32_t state) noexcept {
  end(g);
  if (!(word(g).exchange(state, std::memory_order_acq_rel) & has_waiters)) return;
  if (ours()) futex::wake(g, INT32_MAX);
  sys::call(SYS_futex, g, FUTEX_WAKE, INT32_MAX);
}

}  // namespace

int cxa_guard_acquire(static_guard* g) noexcept {
  std::atomic<std::uint32_t>& w = word(g);
  for (;;) {
    std::uint32_t s = w.load(std::memory_order_acquire);
    if (s & initialised) return 0;
    if (!(s & in_progress)) {
      if (!w.compare_exchange_strong(s, s | in_progress, std::memory_order_acq_rel)) continue;
      begin(g);
      return 1;
    }
    if (is_own(g)) sys::die("a local static variable is used by its own initialisation");
    if (!(s & has_waiters)) {
      if (!w.compare_exchange_strong(s, s | has_waiters, std::memory_order_acq_rel)) continue;
      s |= has_waiters;
    }
    if (ours() && core::current && may_wait()) {
      if (futex::wait(&w, s, deadline::never(), futex::ends::by_wake) == -ECANCELED)
        act_on_cancel();
    } else {
      sys::call(SYS_futex, g, FUTEX_WAIT, s, nullptr);
    }
  }
}

void cxa_guard_release(static_guard* g) noexcept { finish(g, initialised); }
void cxa_guard_abort(static_guard* g) noexcept { finish(g, 0); }

void static_guards_after_fork() noexcept { new (&under_way_lock) core::spin_lock; }

}  // namespace tendril::posix
