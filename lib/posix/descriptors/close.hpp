// What close(2) must know from other calls.
#pragma once

namespace tendril::posix {

// Called when the program has set SO_LINGER on a socket: closing one may wait from now on. (A
// socket inherited through exec is not noticed.)
void sockets_may_linger() noexcept;

}  // namespace tendril::posix
