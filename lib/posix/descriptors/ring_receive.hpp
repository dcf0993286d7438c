// recv(2) that the kernel carries out meanwhile, on an io_uring (TENDRIL_POLLER=io_uring).
#pragma once

#include "posix/common/cooperate.hpp"

namespace tendril::posix {

// recv(fd, buf, n, 0) that the kernel carries out (TENDRIL_POLLER=io_uring), if there is nothing to
// receive yet. not_by_ring: it has received nothing, and is to be done in the usual way.
long receive_by_ring(int fd, void* buf, std::size_t n) noexcept;

}  // namespace tendril::posix
