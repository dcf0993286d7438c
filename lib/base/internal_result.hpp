// What calls inside the runtime return besides the results of system calls (a count, or -errno).
#pragma once

namespace tendril::core {

// Lower than every -errno, so that no system call returns one of them.
inline constexpr int restart = -1'000'000;      // nothing is done yet: make the call anew
inline constexpr int from_disk = -1'000'001;    // the file is not in the page cache: a helper reads
inline constexpr int under_way = -1'000'002;    // the kernel has not ended the operation yet
inline constexpr int not_by_ring = -1'000'003;  // not for io_uring: do it in the usual way
inline constexpr int ring_lost = -1'000'004;    // the kernel forbids io_uring from now on

}  // namespace tendril::core
