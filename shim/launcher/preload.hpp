// Where libtendril-preload.so is, and what LD_PRELOAD becomes with it.
#pragma once

#include <string>

namespace tendril::launcher {

// TENDRIL_PRELOAD if that is set, else the library beside the launcher. Absolute, and checked to be
// loadable; throws failure otherwise.
std::string find_preload_library();

// `library` first, then what stood in LD_PRELOAD already.
std::string preload_list(const std::string& library);

}  // namespace tendril::launcher
