// scheduler/remote_queue.hpp: two kernel threads wake the fibers of a third one, which drains its
// queue. Whoever finds a fiber in the queue already relies on the wake that is under way.
#include "scheduler/remote_queue.hpp"

#include "checker.hpp"

using namespace tendril::core;

namespace tendril::core {

void fiber_ref(fiber* f) noexcept { f->refs.fetch_add(1, std::memory_order_relaxed); }
// The real one orders more. The queue must not rely on that.
void fiber_unref(fiber* f) noexcept { f->refs.fetch_sub(1, std::memory_order_relaxed); }

}  // namespace tendril::core

namespace {

struct model : models::suite<model, 3> {
  remote_queue queue;
  fiber one, other;
  // What each fiber waits for: both threads wake the first, one of them wakes the second.
  atomic<bool> first_came{false}, second_came{false};
  models::plain<int> said;

  // The hub. A fiber that was woken looks for its condition, and waits again if it finds none. The
  // hub spins instead of sleeping: that is another model.
  void drain_until_all_has_come() {
    bool first = false, second = false, others = false;
    while (!first || !second || !others) {
      if (queue.empty()) {
        models::give_way();
        continue;
      }
      queue.drain([&](fiber* f) {
        if (f == &other) return void(others = true);
        first = first || first_came.load(std::memory_order_acquire);
        second = second || second_came.load(std::memory_order_acquire);
      });
    }
    models::expect(said == 1, "what was said before the wake is not seen");
  }
  void wake(fiber& f) {
    if (remote_queue::claim(&f)) queue.push(&f);
  }
  void run(unsigned i) {
    if (i == 0) {
      drain_until_all_has_come();
    } else if (i == 1) {
      first_came.store(true, std::memory_order_relaxed);
      wake(one);
      said = 1;
      wake(other);
    } else {
      second_came.store(true, std::memory_order_relaxed);
      wake(one);
    }
  }
  void after() {
    models::expect(queue.empty() || one.refs == 2, "a fiber without a reference is in the queue");
    if (queue.empty()) models::expect(one.refs == 1, "a reference is lost");
  }
};

}  // namespace

bool models::check_all() {
  constexpr char for_sleep[] = "only a hub that is about to sleep needs it: see hub_model";
  return check<model>({
      .name = "remote_queue",
      .files = {"remote_queue.hpp"},
      .allowed =
          {
              {"remote_queue.hpp", "bool empty() const", for_sleep},
              {"remote_queue.hpp", "head_.compare_exchange_weak", for_sleep},
          },
  });
}
