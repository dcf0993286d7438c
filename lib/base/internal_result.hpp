// What calls inside the runtime return besides a system call's results (a count, or -errno).
#pragma once

namespace tendril::core {

// Lower than every -errno, so that no system call returns one of them.
inline constexpr int restart = -1'000'000;  // nothing has been done yet: make the call again
// the file is not in the page cache: a helper must read
inline constexpr int from_disk = -1'000'001;
inline constexpr int under_way = -1'000'002;    // the kernel has not finished the operation yet
inline constexpr int not_by_ring = -1'000'003;  // io_uring cannot do this: use the usual way
inline constexpr int ring_lost = -1'000'004;    // the kernel forbids io_uring from now on

}  // namespace tendril::core
