// scheduler/hub.cpp and scheduler/park.cpp: a fiber waits for two things that other kernel threads
// bring, and its hub sleeps while nothing has come. No wake is lost.
#include "checker.hpp"
#include "hub_calls.hpp"
#include "scheduler/hub.hpp"
#include "scheduler/kernel_threads.hpp"
#include "scheduler/park.hpp"

using namespace tendril::core;

namespace {

template <class Model>
struct with_hub : models::suite<Model, 3> {
  models::begun_anew<kernel_threads> threads{known_threads};
  hub h{models::calls, models::for_poller};
  wait_info what;
  atomic<bool> first{false}, second{false};
  models::plain<int> said;

  void before() {
    h.ready.reserve(4);
    models::watch(h);
    what.wakeable_by_system = true;
  }
  ~with_hub() { models::watch_no_more(&h); }
};

// Both wake the fiber.
struct unparks : with_hub<unparks> {
  void run(unsigned i) {
    if (i == 0) {
      current = &h.main;
      while (!first.load(std::memory_order_acquire) || !second.load(std::memory_order_acquire))
        park(INT64_MAX, what);
      models::expect(said == 1, "what was said before the wake is not seen");
      current = nullptr;
    } else if (i == 1) {
      said = 1;
      first.store(true, std::memory_order_release);
      unpark(&h.main);
    } else {
      second.store(true, std::memory_order_release);
      unpark(&h.main);
    }
  }
};

// The first thing is waited for without interruption; the second is a request to end the wait after
// it, as of pthread_cancel(3).
struct ends : with_hub<ends> {
  void run(unsigned i) {
    if (i == 0) {
      current = &h.main;
      what.uninterruptible = true;
      while (!first.load(std::memory_order_acquire))
        models::expect(park(INT64_MAX, what) == wake::unparked, "the wait has been interrupted");
      what.uninterruptible = false;
      while (!second.load(std::memory_order_acquire)) {
        if (park(INT64_MAX, what) != wake::interrupted) continue;
        models::expect(second.load(std::memory_order_relaxed), "nobody has ended the wait");
      }
      current = nullptr;
    } else if (i == 1) {
      first.store(true, std::memory_order_relaxed);
      unpark(&h.main);
    } else {
      second.store(true, std::memory_order_relaxed);
      end_wait(&h.main);
    }
  }
};

}  // namespace

bool models::check_all() {
  // (The checker executes all exchanges in one order, as processors do.)
  stronger notifies{"hub.cpp", "sleeping_.exchange(false,", "an exchange is a barrier"};
  stronger closed{"hub.cpp", "closed_elsewhere_.load()", "see closing_model"};
  bool good = check<unparks>({
      .name = "hub: unpark",
      .runs = 200'000,
      .files = {"hub.cpp", "remote_queue.hpp"},
      .allowed =
          {
              notifies,
              closed,
              {"remote_queue.hpp", "head_.exchange(nullptr,", "see remote_queue_model"},
          },
  });
  return check<ends>({
             .name = "hub: end_wait",
             .runs = 200'000,
             .files = {"hub.cpp", "park.cpp"},
             .allowed = {notifies, closed},
         }) &&
         good;
}
