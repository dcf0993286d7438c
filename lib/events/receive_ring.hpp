// Receives that the kernel carries out while fibers wait, on an io_uring that also reports when an
// epoll instance has events.
#pragma once

#include <errno.h>
#include <linux/io_uring.h>

#include <atomic>
#include <cstdint>

#include "events/descriptors.hpp"
#include "events/io_ring.hpp"
#include "events/io_waiter.hpp"

namespace tendril::core {

class receive_ring {
 public:
  static const char* obstacle() noexcept;
  // Whether it should be used, and nothing has prevented it so far.
  bool is_wanted() noexcept { return !without_ && (ring_.is_open() || look_whether_wanted()); }
  bool is_open() const noexcept { return ring_.is_open(); }
  bool open() noexcept {
    if (!ring_.is_open() && ring_.open()) without_ = true;
    return ring_.is_open();
  }
  void give_up() noexcept { without_ = true; }
  bool has_under_way() const noexcept { return under_way_; }

  bool is_full() const noexcept { return ring_.full(); }
  // Queues the receive; the kernel learns of it in enter(). Returns false if there is no room, or
  // no ring any more.
  bool add(ring_receive& r) noexcept;
  // The same for a cancellation.
  bool cancel(const ring_receive& r) noexcept;
  // A descriptor is about to be closed, perhaps that of a receive which has not been submitted yet.
  // Any thread.
  void note_forgotten() noexcept { forgot_.store(true, std::memory_order_release); }

  // Makes events of the epoll instance end the next wait, if there is room.
  void watch(int epoll) noexcept;
  bool watches() const noexcept { return watches_; }
  void watch_another() noexcept { watches_ = false; }
  // Whether the epoll instance has had events since the last call.
  bool has_seen_events() noexcept {
    bool seen = has_events_;
    has_events_ = false;
    return seen;
  }

  // Submits what is queued, waits for at least `least` completions, and calls finish(receive,
  // result) for each receive that has completed, some time after fetch(receive). Returns the system
  // call's result, or ring_lost.
  template <class Finish, class Fetch>
  long enter(unsigned least, const timespec* timeout, const std::uint64_t* mask, Finish finish,
             Fetch fetch) noexcept;
  void lose() noexcept {
    ring_.close();
    without_ = true;
    watches_ = false;
    under_way_ = 0;
  }
  void after_fork() noexcept {
    ring_.abandon();
    under_way_ = 0;
    without_ = watches_ = has_events_ = false;
  }

 private:
  // Marks of operations that are not receives.
  static constexpr std::uint64_t nobody = 0, epoll_mark = 1;
  static constexpr int ahead = 4;
  bool look_whether_wanted() noexcept;
  void drop_forgotten() noexcept;

  ring ring_;
  std::size_t under_way_ = 0;  // receives
  bool without_ = false;       // not wanted, or not available
  bool watches_ = false;       // the epoll instance
  bool has_events_ = false;
  std::atomic<bool> forgot_{false};
};

template <class Finish, class Fetch>
long receive_ring::enter(unsigned least, const timespec* timeout, const std::uint64_t* mask,
                         Finish finish, Fetch fetch) noexcept {
  if (forgot_.load(std::memory_order_relaxed) && forgot_.exchange(false, std::memory_order_acquire))
    drop_forgotten();
  long entered = ring_.enter(least, timeout, mask);
  if (entered < 0 && entered != -EINTR && entered != -ETIME && entered != -EAGAIN &&
      entered != -EBUSY)
    return ring_lost;
  int n = int(ring_.ended());
  auto receive_of = [&](int i) noexcept {
    std::uint64_t mark = i >= 0 && i < n ? ring_.ended(unsigned(i)).mark : nobody;
    return reinterpret_cast<ring_receive*>(mark == epoll_mark ? nobody : mark);
  };
  for (int i = -2 * ahead; i < n; i++) {
    // Like poller::fetch_ahead().
    if (auto r = reinterpret_cast<const char*>(receive_of(i + 2 * ahead))) {
      __builtin_prefetch(r);
      __builtin_prefetch(r + 64);
    }
    if (ring_receive* r = receive_of(i + ahead)) fetch(*r);
    if (i < 0) continue;
    if (ring_receive* r = receive_of(i)) {
      under_way_--;
      finish(*r, ring_.ended(unsigned(i)).result);
    } else if (ring_.ended(unsigned(i)).mark == epoll_mark) {
      has_events_ = true, watches_ = false;
    }
  }
  ring_.done_with(unsigned(n));
  return entered;
}

}  // namespace tendril::core
