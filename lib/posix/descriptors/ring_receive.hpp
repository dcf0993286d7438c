// recv(2) carried out by the kernel on an io_uring while the fiber waits (TENDRIL_POLLER=io_uring).
#pragma once

#include "posix/common/cooperate.hpp"

namespace tendril::posix {

// As recv(fd, buf, n, 0); the kernel receives on an io_uring if there is no data yet. not_by_ring:
// nothing was received; the caller must receive in the usual way.
long receive_by_ring(int fd, void* buf, std::size_t n) noexcept;

}  // namespace tendril::posix
