// scheduler/closing.cpp, the hub, and events/waiter_count.hpp: a fiber is about to wait for a
// descriptor while another kernel thread closes it. The fiber learns of it.
#include "scheduler/closing.hpp"

#include "checker.hpp"
#include "hub_calls.hpp"
#include "scheduler/hub_registry.hpp"
#include "scheduler/kernel_threads.hpp"
#include "scheduler/park.hpp"

using namespace tendril::core;

namespace {

struct model : models::suite<model, 2> {
  models::begun_anew<kernel_threads> threads{known_threads};
  models::begun_anew<hub_registry> registry{hubs};
  models::begun_anew<descriptor> number{descriptors::only};
  hub h{models::calls, {hub::wake, forget_descriptor, wake_closed_waiters}};
  atomic<bool> is_open{true};

  void before() {
    h.ready.reserve(4);
    models::watch(h);
    models::watch(hubs);
    hubs.add(h);
  }
  ~model() {
    models::watch_no_more(&h);
    models::watch_no_more(&hubs);
  }
  void run(unsigned i) {
    if (i == 0) {
      current = &h.main;
      io_waiter w;
      w.who = current;
      w.fd = 0;
      wait_info what;
      what.kind = wait_kind::descriptor;
      h.io.add(w);
      // As epoll_ctl(2) says, and as a wait does that has registered the successor.
      if (!is_open.load(std::memory_order_relaxed)) h.io.wake_closed(0);
      else models::expect(park(INT64_MAX, what) == wake::closed, "the wait ends otherwise");
      current = nullptr;
    } else {
      // As replacing() in posix/descriptors/close.cpp.
      descriptors::only.closing.store(true, std::memory_order_relaxed);
      forget_descriptor(0);
      is_open.store(false, std::memory_order_relaxed);
      descriptors::only.closing.store(false, std::memory_order_release);
      wake_closed_waiters(0);
    }
  }
};

}  // namespace

bool models::check_all() {
  return check<model>({
      .name = "closing",
      .files = {"hub.cpp", "closing.cpp", "descriptor.hpp", "waiter_count.hpp"},
      .allowed =
          {
              {"hub.cpp", "sleeping_.exchange(false,", "see hub_model"},
              {"hub.cpp", "closed_elsewhere_.exchange(false)", "the hub has seen it set"},
              {"closing.cpp", "generation.fetch_add(", "several close at once", "release"},
          },
  });
}
