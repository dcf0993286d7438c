// The tick: the runtime's signal by which the watcher of threads that do not yield
// (posix/threads/preempt.hpp) interrupts the thread that runs on a hub. Any kernel thread.
#pragma once

#include "base/atomic.hpp"
#include "base/runtime_signal.hpp"
#include "fiber/fiber.hpp"

namespace tendril::core {

struct tick_state {
  atomic<unsigned> preempted{0};  // how often a tick found another fiber to run
  // Whether a tick was sent and not handled yet. At most one is sent at a time: if several were
  // pending, the kernel would stack a frame for each.
  atomic<bool> sent{false};
  // Whether its signal is still to come. One that comes while a tick is being handled is not the
  // tick's: it has been sent for something else (hub_crew::call_on_others).
  atomic<bool> on_its_way{false};

  // Sends the hub's kernel thread a tick, unless the last one has not been handled yet.
  void send(const fiber_home& to) noexcept {
    if (!sent.exchange(true, std::memory_order_relaxed)) send_again(to);
  }
  void send_again(const fiber_home& to) noexcept {
    on_its_way.store(true, std::memory_order_relaxed);
    sys::call(SYS_tgkill, to.pid, to.tid, runtime_signal::number);
  }
};

}  // namespace tendril::core
