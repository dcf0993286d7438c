// What the process knows of one descriptor number. Shared by all kernel threads.
//
// A number that is closed and opened again refers to another file. So code that remembers something
// about a descriptor also remembers its generation, and forgets both when they differ.
#pragma once

#include <cstdint>

#include "base/atomic.hpp"
#include "base/sys.hpp"

namespace tendril::core {

struct alignas(64) descriptor {  // a cache line each
  atomic<std::uint32_t> generation{0};
  // the generation has already been advanced, but the old file may still be open
  atomic<bool> closing{false};
  // posix::file_kind in the low three bits, above them the generation for which it holds
  atomic<std::uint32_t> kind{0};
  // only our calls are made on it: the generation for which that holds, plus one
  atomic<std::uint32_t> kept{0};
  // Made by a call of this process that we saw, and since then neither inherited by a child nor
  // sent to another process: the descriptors::stamp() of that time.
  atomic<std::uint64_t> private_since{0};
  // Calls on it block indefinitely: it is private, and the program has neither made it non-blocking
  // nor set a time-out for receiving (or sending). The descriptors::mode_stamp() for which that was
  // found.
  atomic<std::uint64_t> receives_blocking{0}, sends_blocking{0};
  // A stream socket over IP that was made by one of our calls: the generation for which that holds,
  // plus one.
  atomic<std::uint32_t> inet_stream{0};
  atomic<std::uint32_t> connected{0};  // by one of our calls, likewise
  // the object of the runtime that uses the number (own_descriptors.hpp); null: none
  atomic<const void*> owner{nullptr};

  // The current file's generation, for a caller that is about to watch it, and not that of its
  // successor while another kernel thread is between advancing the generation and closing the file.
  // That takes a moment, but the closing thread may have been preempted or cancelled there: then
  // `settled` is false, and the generation may be the successor's although the old file is still
  // open.
  std::uint32_t settled_generation(bool& settled) const noexcept {
    for (int tries = 0;; tries++) {
      std::uint32_t g = generation.load(std::memory_order_acquire);
      settled = !closing.load(std::memory_order_acquire);
      if (settled || tries == 1000) return g;
      sys::call(SYS_sched_yield);
    }
  }
};

}  // namespace tendril::core
