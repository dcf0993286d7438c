#include "scheduler/hub_registry.hpp"

#include "scheduler/kernel_threads.hpp"

namespace tendril::core {

constinit hub_registry hubs;

void hub_registry::add(hub& h) noexcept {
  deferring_spin_guard held(lock_);
  h.next_hub = front();
  first_ = &h;
  known_threads.hubs++;
}

void hub_registry::remove(hub& h) noexcept {
  deferring_spin_guard held(lock_);
  for (hub* other = front(); other; other = other->next_hub) {
    if (other->next_hub == &h) other->next_hub = h.next_hub;
  }
  if (front() == &h) first_ = h.next_hub;
  known_threads.hubs--;
}

void hub_registry::after_fork(hub* mine) noexcept {
  new (&lock_) spin_lock;
  for (hub* h = front(); h; h = h->next_hub) {
    if (h == mine) continue;
    h->io.close_inherited();
    h->belongs_to_parent();
  }
  first_ = mine;
  known_threads.hubs = mine ? 1 : 0;
  if (mine) mine->next_hub = nullptr;
}

}  // namespace tendril::core
