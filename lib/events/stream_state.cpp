#include "events/stream_state.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/sys.hpp"
#include "events/descriptors.hpp"

namespace tendril::core {

constinit std::atomic<bool> stream_state::plain_{true};

namespace {

bool is_tcp(int fd) noexcept {
  int protocol = 0;
  socklen_t n = sizeof protocol;
  return sys::call_if_allowed(SYS_getsockopt, fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &n) == 0 &&
         protocol == IPPROTO_TCP;
}

// Whether fd is a TCP connection with no layer between it and its reader. (A layer that the program
// adds later is noticed: see may_stop().)
bool is_plain_tcp(int fd) noexcept {
  if (descriptors::is_inet_stream(fd)) {
    // The system may turn all of them into something else (MPTCP, SMC): ask once.
    static std::atomic<int> asked{0};
    int known = asked.load(std::memory_order_relaxed);
    if (!known) asked.store(known = is_tcp(fd) ? 1 : -1, std::memory_order_relaxed);
    return known > 0;
  }
  if (!is_tcp(fd)) return false;
  char layer[16];
  socklen_t n = sizeof layer;
  return sys::call_if_allowed(SYS_getsockopt, fd, IPPROTO_TCP, TCP_ULP, layer, &n) == 0 && n == 0;
}

}  // namespace

void stream_state::begin(int fd) noexcept { set(is_plain_tcp(fd) ? reported : unknown); }

}  // namespace tendril::core
