// sched_yield(2) for fibers: lets each runnable fiber run, or other kernel threads if there is
// none.
#include <tendril/pthread.hpp>

#include <sched.h>

#include "posix/threads/thread.hpp"

namespace tendril::posix {

[[gnu::noinline]] static int yield_slow() noexcept {
  if (!may_wait()) return real.sched_yield();
  if (my_hub().ready.empty()) real.sched_yield();
  give_way();
  if (cancels_at_once()) act_on_cancel();
  return 0;
}

int sched_yield() {
  fiber* self = core::current;
  if (!self) return real.sched_yield();
  hub& h = *hub::of(self);
  if (!leaves_nothing(h, self) || !core::give_way_fast(h, self)) return yield_slow();
  if (cancel_asked() && cancels_at_once()) [[unlikely]]
    act_on_cancel();
  return 0;
}

}  // namespace tendril::posix
