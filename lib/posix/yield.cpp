// sched_yield(2), the fibers' way: to each that can run, and to the other kernel threads if there is none.
#include <tendril/pthread.hpp>

#include <sched.h>

#include "cooperate.hpp"
#include "thread.hpp"

namespace tendril::posix {

int sched_yield() {
  if (!may_wait()) return real.sched_yield();
  if (my_hub().ready.empty()) real.sched_yield();
  give_way();
  if (cancels_at_once()) act_on_cancel();
  return 0;
}

}  // namespace tendril::posix
