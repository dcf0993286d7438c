// base/futex_lock.hpp: two kernel threads that use a lock never hold it at once, each sees what the
// other did under it, and none waits for ever.
#include "base/futex_lock.hpp"

#include "checker.hpp"

using namespace tendril::core;

namespace {

template <class Lock>
struct model : models::suite<model<Lock>, 3> {
  Lock lock;
  models::plain<int> shared;

  void run(unsigned) {
    for (int i = 0; i < 2; i++) {
      lock.lock();
      shared++;
      lock.unlock();
    }
  }
  void after() { models::expect(shared == 6, "an increment is lost"); }
};

}  // namespace

bool models::check_all() {
  bool good =
      check<model<futex_lock>>({.name = "futex_lock", .runs = 50'000, .files = {"futex_lock.hpp"}});
  return check<model<spin_lock>>(
             {.name = "spin_lock", .runs = 50'000, .files = {"futex_lock.hpp"}}) &&
         good;
}
