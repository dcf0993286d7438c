// The doorbell of a poller: a socket that always has a message to read. So registering it again is
// an event, which wakes the hub. If the program has put a file of its own on that number, nothing
// is written to it.
//
// The message carries two descriptors, which thereby exist without a number: a signalfd for all
// signals, and a timerfd that reports when the clock is set. They are never read. A fiber waits for
// them to become ready, and then asks the kernel itself: sigtimedwait(2) and clock_nanosleep(2)
// need no descriptor.
#pragma once

#include <cstdint>

namespace tendril::core::doorbell {

// The tags of their events: larger than any descriptor's tag.
inline constexpr std::uint64_t rung = ~0ULL, signals = ~0ULL - 1, clock = ~0ULL - 2;

// Registers fd for edges. Returns false if the system refuses.
bool watch_edges(int epoll, int fd, std::uint32_t events, std::uint64_t as) noexcept;
// Opens a socket that holds both sources, which are registered with `epoll`. Negative if the system
// forbids one of the steps.
int open(int epoll) noexcept;

}  // namespace tendril::core::doorbell
