#include "events/receive_ring.hpp"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.hpp"

namespace tendril::core {

namespace {

bool asked_for_ring() noexcept {
  // not read yet; it does no harm if several threads read it at once
  static constinit std::atomic<int> wanted{-1};
  if (int known = wanted.load(std::memory_order_relaxed); known >= 0) return known;
  const char* s = getenv("TENDRIL_POLLER");
  bool yes = s && strcmp(s, "io_uring") == 0;
  if (s && *s && !yes && strcmp(s, "epoll") != 0)
    sys::say("TENDRIL_POLLER=", s, " is neither epoll nor io_uring; using epoll");
  wanted.store(yes, std::memory_order_relaxed);
  return yes;
}

}  // namespace

const char* receive_ring::obstacle() noexcept {
  ring trial;
  return trial.open();
}

bool receive_ring::look_whether_wanted() noexcept {
  without_ = !asked_for_ring();
  return !without_;
}

bool receive_ring::add(ring_receive& r) noexcept {
  if (!ring_.is_open() || ring_.full()) return false;
  io_uring_sqe& e = ring_.add(reinterpret_cast<std::uintptr_t>(&r));
  e.opcode = IORING_OP_RECV;
  e.fd = r.fd;
  e.addr = reinterpret_cast<std::uintptr_t>(r.to);
  e.len = r.room;
  under_way_++;
  return true;
}

bool receive_ring::cancel(const ring_receive& r) noexcept {
  if (ring_.full()) return false;
  io_uring_sqe& e = ring_.add(nobody);
  e.opcode = IORING_OP_ASYNC_CANCEL;
  e.addr = reinterpret_cast<std::uintptr_t>(&r);
  e.flags = IOSQE_CQE_SKIP_SUCCESS;
  return true;
}

void receive_ring::watch(int epoll) noexcept {
  if (watches_ || ring_.full()) return;
  io_uring_sqe& e = ring_.add(epoll_mark);
  e.opcode = IORING_OP_POLL_ADD;
  e.fd = epoll;
  e.poll32_events = POLLIN;
  watches_ = true;
}

void receive_ring::drop_forgotten() noexcept {
  // Their numbers may refer to other files by now.
  ring_.each_added([](io_uring_sqe& e) {
    if (e.opcode != IORING_OP_RECV) return;
    auto r = reinterpret_cast<const ring_receive*>(e.user_data);
    if (r->generation != descriptors::generation(r->fd)) e.fd = -1;
  });
}

}  // namespace tendril::core
