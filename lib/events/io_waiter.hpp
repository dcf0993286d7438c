// A fiber's wait for a descriptor.
#pragma once

#include <cstdint>

#include "base/internal_result.hpp"
#include "base/list.hpp"
#include "fiber/fiber.hpp"

namespace tendril::core {

// One fiber's wait for one descriptor; lives in its frame while it is parked.
struct io_waiter : list_node {
  fiber* who = nullptr;
  int fd = -1;
  // EPOLLIN, EPOLLOUT, EPOLLPRI, ... (errors and hang-ups always count); 0: for an operation's
  // completion
  std::uint32_t events = 0;
  bool alone = false;  // all that the fiber waits for
  std::uint32_t generation = 0;
  std::uint32_t reported = 0;  // the events that ended the wait; 0: something else did
};

// One fiber's recv(2) that the kernel carries out. The fiber must not leave this frame before the
// operation has completed.
struct ring_receive : io_waiter {
  void* to = nullptr;
  std::uint32_t room = 0;
  // the system call's result; -ECANCELED: it was cancelled, and has received nothing
  long result = under_way;
};

}  // namespace tendril::core
