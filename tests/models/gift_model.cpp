// Gifts: two hubs give a thread to each other whenever it waits for a turn. The main fiber of one
// of them wakes it, and a third kernel thread ends its wait, wherever it is. Both reach it, and it
// runs on one hub at a time. (Both hubs stay: how one ends that others may give to is in
// crew_model.)
#include "checker.hpp"
#include "hub_calls.hpp"
#include "scheduler/hub.hpp"
#include "scheduler/kernel_threads.hpp"
#include "scheduler/park.hpp"

using namespace tendril::core;

namespace {

struct model;
model* running = nullptr;

struct model : models::suite<model, 3> {
  models::begun_anew<kernel_threads> threads{known_threads};
  hub a{models::calls, models::for_poller}, b{models::calls, models::for_poller};
  fiber f;
  thread_storage storage;
  models::refers<fiber_home> home{f.home};
  wait_info mains_wait, first_wait, second_wait;
  atomic<bool> first{false}, second{false}, ended{false};
  models::plain<int> said, turns;

  void before() {
    running = this;
    for (hub* h : {&a, &b}) {
      h->ready.reserve(8);
      h->chaos = 1;  // at each turn, without a look at the clock
      h->share = [](hub& mine, bool) noexcept {
        if (rl::ctx().rand(2, rl::sched_type_user)) running->give(mine);
      };
    }
    f.refs.store(2);
    atomic_ref(f.home).store(&a, std::memory_order_relaxed);
    f.storage = &storage;
    storage.signals.owner = &f;
    f.run = [](fiber&) { running->take_turn(); };
    mains_wait.wakeable_by_system = first_wait.wakeable_by_system = true;
    second_wait.wakeable_by_system = first_wait.uninterruptible = true;
    models::watch(f);
    models::watch(a);
    models::watch(b);
  }
  void give(hub& mine) {
    hub& to = &mine == &a ? b : a;
    mine.give(to, 1);
  }
  // What the thread does between two waits.
  void take_turn() {
    models::expect(hub::of(&f)->main.state == fiber_status::parked, "it runs beside its hub");
    turns++;
    f.movable = true;
    if (!first.load(std::memory_order_acquire)) return wait(first_wait);
    models::expect(said == 1, "what was said before the wake is not seen");
    if (!second.load(std::memory_order_relaxed)) return wait(second_wait);
    ended.store(true, std::memory_order_release);
    unpark(&a.main);
    unpark(&b.main);
  }
  void wait(const wait_info& what) {
    f.waiting = &what;
    f.state = fiber_status::parked;
    hub::of(&f)->waits.add(what);
  }
  void run(unsigned i) {
    if (i < 2) {
      hub& h = i == 0 ? a : b;
      current = &h.main;
      if (i == 0) {
        h.living++;
        h.begin_thread(&f);
        f.movable = true;
        h.share(h, false);
      }
      if (i == 1) {
        said = 1;
        first.store(true, std::memory_order_release);
        unpark(&f);
      }
      while (!ended.load(std::memory_order_acquire)) park(INT64_MAX, mains_wait);
      current = nullptr;
    } else {
      second.store(true, std::memory_order_relaxed);
      end_wait(&f);
    }
  }
  ~model() {
    models::watch_no_more(&f);
    models::watch_no_more(&a);
    models::watch_no_more(&b);
  }
  void after() {
    models::expect(a.living + b.living == 1, "a hub has counted the thread that is another's");
    if (a.remote.empty() && b.remote.empty()) models::expect(f.refs == 1, "a reference is lost");
  }
};

}  // namespace

bool models::check_all() {
  constexpr char in_hub[] = "see hub_model";
  return check<model>({
      .name = "gift",
      .files = {"hub.cpp", "park.cpp", "remote_queue.hpp", "home_now.hpp"},
      .taken_out = {{"in_remote_queue.exchange(false", "remote_queue.hpp"}},
      .allowed =
          {
              {"hub.cpp", "sleeping_.exchange(false,", in_hub},
              {"hub.cpp", "closed_elsewhere_.load()", "see closing_model"},
              {"hub.cpp", "f->ends_wait.exchange(false,", in_hub},
              {"park.cpp", "f->ends_wait.store(true,", in_hub},
              {"remote_queue.hpp", "head_.exchange(nullptr,", "see remote_queue_model"},
          },
  });
}
