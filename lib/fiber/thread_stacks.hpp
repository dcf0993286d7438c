// The stacks of the program's threads. Threads of all hubs share one pool: the thread that makes
// another one may run on another hub than the new one will.
#pragma once

#include "fiber/stack.hpp"

namespace tendril::core::thread_stacks {

// As the functions of stack_pool, for any kernel thread.
stack take(std::size_t size, std::size_t guard) noexcept;
void give_back(const stack& s) noexcept;
stack_pool::trimmed trim() noexcept;
void unmap_free(bool small_ones) noexcept;
void allow_code() noexcept;
bool allows_code() noexcept;
bool holds(const void* p) noexcept;

// Before and after the process forks: meanwhile no other kernel thread changes the pool.
void lock_for_fork() noexcept;
void unlock_after_fork() noexcept;

}  // namespace tendril::core::thread_stacks
