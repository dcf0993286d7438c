#include "scheduler/closing.hpp"

#include "scheduler/hub_registry.hpp"

namespace tendril::core {

void forget_descriptor(int fd) noexcept {
  descriptor* d = descriptors::at(fd);
  if (!d) return;
  bool ends = descriptors::is_private(fd);
  std::uint32_t old = d->generation.fetch_add(1, std::memory_order_acq_rel);
  if (!hubs.front()) return;
  if (current && hubs.is_only(hub::of(current))) return hub::of(current)->io.forget(fd, old, ends);
  hubs.for_each([&](hub& h) { h.io.forget(fd, old, ends); });
}

void keep_descriptor(int fd) noexcept {
  // Without a hub we would not learn of a fork, after which the descriptor is no longer private.
  descriptor* d = current ? descriptors::at(fd) : nullptr;
  if (!d) return;
  forget_descriptor(fd);  // the program may have closed the last file of that number unseen
  descriptors::made_private(fd);
  descriptors::keep(fd);
}

void reveal_descriptor(int fd) noexcept {
  if (descriptor* d = descriptors::at(fd)) d->kept.store(0, std::memory_order_relaxed);
}

void wake_closed_waiters(int fd) noexcept {
  if (!hubs.front()) return;
  hub* mine = current ? hub::of(current) : nullptr;
  if (mine) mine->io.wake_closed(fd);
  if (hubs.is_only(mine)) return;
  // Hubs without waiters too: one of them may be about to add its first.
  hubs.for_each([&](hub& h) {
    if (&h != mine) h.note_closed(fd);
  });
}

}  // namespace tendril::core
