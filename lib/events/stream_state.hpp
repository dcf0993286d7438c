// What is learned of a stream's input from receives and from edges.
//
// A TCP connection that gave less than was asked for has no more; what comes then is an edge. So
// until the next edge there is nothing to receive, and no need to try. Not where anything but bytes
// may stand in the way or be waiting: errors, the end of the stream, urgent data.
#pragma once

#include <sys/epoll.h>

#include <atomic>
#include <cstdint>

namespace tendril::core {

// Of one descriptor, in zeroed memory at first.
class stream_state {
 public:
  bool is_drained() const noexcept { return state() == drained; }
  // The descriptor is one of which nothing is known yet.
  void begin(int fd) noexcept;
  void give_up() noexcept { set(unknown); }
  // Somebody is about to receive: a number for received_all(); 0: nothing is to be learned.
  std::uint32_t begin_receive() noexcept {
    if (state() == unknown) return 0;
    in_ += 4;
    set(asked);
    return in_;
  }
  // Who has got less than was asked for, since the receive of that number.
  void received_all(std::uint32_t begun) noexcept {
    if (in_ == begun && begun) set(drained);
  }
  // An edge was reported.
  void tell(std::uint32_t events) noexcept {
    if (events & (EPOLLPRI | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) set(unknown);
    else if (state() != unknown) set(events & EPOLLIN ? told : drained);
  }

  // Some connection's receives may from now on stop for other reasons than having got all: marks of
  // urgent data that was read already, records of TLS in the kernel, SO_RCVLOWAT.
  static void may_stop() noexcept { plain_.store(false, std::memory_order_relaxed); }
  static bool are_plain() noexcept { return plain_.load(std::memory_order_relaxed); }

 private:
  enum input : std::uint32_t {
    unknown,  // and nothing can be learned
    told,     // there was an edge
    asked,    // none since somebody began to receive
    drained,
  };
  input state() const noexcept { return input(in_ & 3); }
  void set(input i) noexcept { in_ = (in_ & ~3u) | i; }

  std::uint32_t in_;  // an input; above it, how often somebody began to receive
  static std::atomic<bool> plain_;
};

}  // namespace tendril::core
