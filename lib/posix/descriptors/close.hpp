// What closing has to know of the other calls.
#pragma once

namespace tendril::posix {

// The program has given a socket SO_LINGER: closing one may wait from now on. (One that came so
// through exec is not known of.)
void sockets_may_linger() noexcept;

}  // namespace tendril::posix
