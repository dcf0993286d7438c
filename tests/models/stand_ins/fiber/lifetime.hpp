// In place of lib/fiber/lifetime.hpp.
#pragma once

#include "fiber/fiber.hpp"

namespace tendril::core {

inline bool give_back_idle(fiber_home*, std::size_t) noexcept { return false; }

inline bool make_room(fiber_home*) noexcept { return true; }
inline void share_exceptions(fiber*, fiber*) noexcept {}

}  // namespace tendril::core
