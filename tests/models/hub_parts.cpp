// What the scheduler calls in layers that the models have no need of.
#include "base/fork_handlers.hpp"
#include "scheduler/home.hpp"

namespace tendril::core {

void fiber_ref(fiber* f) noexcept { f->refs.fetch_add(1, std::memory_order_relaxed); }
// The real one orders more. Nothing may rely on that.
void fiber_unref(fiber* f) noexcept { f->refs.fetch_sub(1, std::memory_order_relaxed); }
void reap() noexcept {}
bool start(fiber* f) noexcept {
  hub& h = *hub::of(f);
  f->started = true;
  f->state = fiber_status::ready;
  h.fibers.push_back(*f);
  h.unfinished++;
  h.ready.push(f);
  return true;
}
hub* make_home() noexcept { return nullptr; }
bool child_shares_descriptors() noexcept { return false; }

namespace runtime_signal {
bool install(callback) noexcept { return true; }
}  // namespace runtime_signal

}  // namespace tendril::core
