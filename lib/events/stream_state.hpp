// What receives and edges reveal about a stream's input.
//
// A TCP connection that gave less than was asked for is empty, and later input raises an edge. So
// until the next edge there is nothing to receive, and no need to try. This does not hold where
// anything but bytes may be waiting, or may have cut the receive short: errors, the end of the
// stream, urgent data.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>

namespace tendril::core {

// The state of one descriptor, in zeroed memory at first.
class stream_state {
 public:
  bool is_drained() const noexcept { return state() == drained; }
  // The descriptor is a new one, of which nothing is known yet.
  void begin(int fd) noexcept;
  void give_up() noexcept { set(unknown); }
  // A receive is about to begin. Returns a number for received_all(); 0: there is nothing to learn.
  std::uint32_t begin_receive() noexcept {
    if (state() == unknown) return 0;
    in_ += 4;
    set(asked);
    return in_;
  }
  // The receive with that number got less than it asked for.
  void received_all(std::uint32_t begun) noexcept {
    if (in_ == begun && begun) set(drained);
  }
  // An edge was reported.
  void tell(std::uint32_t events) noexcept {
    if (events & (EPOLLPRI | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) set(unknown);
    else if (state() != unknown) set(events & EPOLLIN ? reported : drained);
  }

  // From now on a receive on some connection may get less than it asked for although there is more:
  // after a mark of urgent data that has already been read, records of TLS in the kernel,
  // SO_RCVLOWAT.
  static void may_stop() noexcept { plain_.store(false, std::memory_order_relaxed); }
  static bool are_plain() noexcept { return plain_.load(std::memory_order_relaxed); }

 private:
  enum input : std::uint32_t {
    unknown,   // and nothing can be learned
    reported,  // there was an edge
    asked,     // there was no edge since a receive began
    drained,
  };
  input state() const noexcept { return input(in_ & 3); }
  void set(input i) noexcept { in_ = (in_ & ~3u) | i; }

  std::uint32_t in_;  // an input; above it, the number of receives that have begun
  static std::atomic<bool> plain_;
};

}  // namespace tendril::core
