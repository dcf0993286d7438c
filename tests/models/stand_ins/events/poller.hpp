// In place of lib/events/poller.hpp: the waiters of one descriptor, for which no event comes, and a
// doorbell. A ring is kept until the next poll, as an edge of epoll is. It orders nothing.
#pragma once

#include "events/descriptors.hpp"
#include "events/io_waiter.hpp"
#include "events/waiter_count.hpp"
#include "fiber/fiber.hpp"

namespace tendril::core {

class poller {
 public:
  struct hub_part {
    void (*wake)(fiber*, core::wake) noexcept;
    void (*forget)(int fd) noexcept;
    void (*wake_closed)(int fd) noexcept;
  };
  explicit poller(const hub_part& report) noexcept : report_(report) {}
  int add(io_waiter& w) noexcept {
    bool settled;
    w.generation = descriptors::only.settled_generation(settled);
    waiters_.push_back(w);
    listed_.one_more();
    return 0;
  }
  bool has_waiters() const noexcept { return waiters_.front(); }
  bool is_waited_for(int) noexcept { return listed_.any(); }
  void wake_closed(int fd) noexcept {
    io_waiter* w = waiters_.front();
    if (!w || w->generation == descriptors::generation(fd)) return;
    w->unlink();
    listed_.one_less();
    report_.wake(w->who, wake::closed);
  }
  void wake_all_closed() noexcept { wake_closed(0); }
  void forget(int, std::uint32_t, bool) noexcept {}

  struct spare {
    int epoll = -1;
  };
  static void prepare(spare*, unsigned) noexcept {}
  static void drop(spare&) noexcept {}
  void take(spare&) noexcept {}
  void share_descriptors() noexcept {}
  bool open() noexcept { return true; }
  bool poll(const timespec* timeout, const std::uint64_t* = nullptr) noexcept {
    if (!timeout) rings_.sleep_while(0);
    rings_.store(0, std::memory_order_relaxed);
    return true;
  }
  bool interrupt() noexcept {
    rings_.store(1, std::memory_order_relaxed);
    rings_.wake(1);
    return true;
  }
  void after_fork() noexcept {}
  void close_inherited() noexcept {}

 private:
  hub_part report_;
  list<io_waiter> waiters_;
  waiter_count listed_;
  atomic<std::uint32_t> rings_{0};
};

}  // namespace tendril::core
