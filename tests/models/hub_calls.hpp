// What a modelled hub's fibers and poller call, in place of what lib/scheduler/home.cpp gives them.
#pragma once

#include "scheduler/hub.hpp"

namespace models {

inline constexpr tendril::core::hub_calls calls{[](tendril::core::fiber_home* h) noexcept {
  return static_cast<tendril::core::hub*>(h)->next();
}};
inline constexpr tendril::core::poller::hub_part for_poller{tendril::core::hub::wake, nullptr,
                                                            nullptr};

}  // namespace models
