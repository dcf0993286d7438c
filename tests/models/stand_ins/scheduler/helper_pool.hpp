// In place of lib/scheduler/helper_pool.hpp.
#pragma once

#include <cstddef>

namespace tendril::core {

// Lets the model's thread begin that is to be the new kernel thread.
bool start_own_thread(void* (*run)(void*), void* argument, std::size_t stack_size = 0) noexcept;

}  // namespace tendril::core
