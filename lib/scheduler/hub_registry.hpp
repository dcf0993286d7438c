// All hubs of the process: for close(), fork(), and whoever asks whether there are several.
#pragma once

#include "scheduler/hub.hpp"

namespace tendril::core {

class hub_registry {
 public:
  // The newest hub; null: there is none.
  hub* front() const noexcept { return first_.load(std::memory_order_acquire); }
  bool is_only(const hub* h) const noexcept { return front() == h && h && !h->next_hub; }

  void add(hub& h) noexcept;
  void remove(hub& h) noexcept;
  // Calls f(hub&) for each, under a lock.
  template <class F>
  void for_each(F f) noexcept {
    deferring_spin_guard held(lock_);
    for (hub* h = front(); h; h = h->next_hub) f(*h);
  }
  // In a forked child: the hubs of the other kernel threads stayed in the parent process.
  void after_fork(hub* mine) noexcept;

 private:
  atomic<hub*> first_{nullptr};
  spin_lock lock_;  // a handler that closes a descriptor takes it, too
};

extern constinit hub_registry hubs;

}  // namespace tendril::core
