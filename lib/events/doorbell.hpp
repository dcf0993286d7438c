// The doorbell of a poller: a socket that always has a message to be read. So to register it once
// more is an event, which wakes the hub, and writes nothing to anybody's file if the program has
// put one on that number.
//
// The message carries two descriptors, which so live without a number: a signalfd for all signals,
// and a timerfd that tells when the clock is set. Nobody reads them. That they become ready is what
// a fiber waits for that then asks the kernel itself: sigtimedwait(2) and clock_nanosleep(2) need
// no descriptor.
#pragma once

#include <cstdint>

namespace tendril::core::doorbell {

// What their events are marked with: no tag of a descriptor is as high.
inline constexpr std::uint64_t rung = ~0ULL, signals = ~0ULL - 1, clock = ~0ULL - 2;

// Registers fd for edges. False: the system refuses.
bool watch_edges(int epoll, int fd, std::uint32_t events, std::uint64_t as) noexcept;
// A socket that keeps both sources, which are registered with `epoll`; below zero: the system
// forbids one of the parts.
int open(int epoll) noexcept;

}  // namespace tendril::core::doorbell
