// In place of lib/thread/tls.hpp.
#pragma once

namespace tendril::core::tls {

inline bool concurrent = false;
inline void pass_over_in_setuid(void*) noexcept {}

}  // namespace tendril::core::tls
