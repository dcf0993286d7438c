// Finds libtendril-preload.so, and composes LD_PRELOAD with it.
#pragma once

#include <string>

namespace tendril::launcher {

// The library named by TENDRIL_PRELOAD if that is set, else the one next to the launcher. The path
// is absolute, and the library has been checked to be loadable; throws failure otherwise.
std::string find_preload_library();

// The value of LD_PRELOAD: `library`, then the entries that were there already; those that must go
// first are put before it.
std::string preload_list(const std::string& library);

}  // namespace tendril::launcher
