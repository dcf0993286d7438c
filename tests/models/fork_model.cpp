// fiber/thread_stacks.cpp: a thread forks while two others take stacks and give them back. The
// child has the pool as it was between two of their calls, and can use it.
#include "fiber/thread_stacks.cpp"

#include "checker.hpp"

using namespace tendril::core;

namespace {

struct model : models::suite<model, 3> {
  models::begun_anew<thread_stacks::shared_pool> pool{thread_stacks::shared};

  void run(unsigned i) {
    if (i == 0) {
      // As lock_for_fork() in posix/process_state.cpp. The child sees what its thread sees now.
      bool locks = !models::without("the lock");
      if (locks) thread_stacks::lock_for_fork();
      stack_pool& p = thread_stacks::shared.get();
      models::expect(p.made == p.in_use + p.unused, "a child finds the pool half changed");
      if (locks) thread_stacks::unlock_after_fork();
    } else {
      stack s = thread_stacks::take(1, 1);
      thread_stacks::give_back(s);
    }
  }
  void after() {
    stack_pool& p = thread_stacks::shared.get();
    models::expect(p.in_use == 0 && p.made == p.unused, "a stack is lost");
    p.~stack_pool();
    thread_stacks::shared.begun = false;
  }
};

}  // namespace

bool models::check_all() {
  return check<model>({.name = "fork", .files = {}, .taken_out = {{"the lock"}}});
}
