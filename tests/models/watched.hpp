// Finds data races on plain members of shipped classes: the compiler reports each access to memory,
// as it does for ThreadSanitizer, and Relacy compares it with those of the other threads.
#pragma once

#include <cstddef>

namespace models {

// A run begins: nothing is watched.
void watch_nothing() noexcept;
// From here on, accesses to that object are watched, but for the atomics in it.
void watch(const void* object, std::size_t size) noexcept;
template <class T>
void watch(const T& object) noexcept {
  watch(&object, sizeof object);
}
// The object is about to end.
void watch_no_more(const void* object) noexcept;
// Called by atomics and plain variables of the models, which Relacy executes itself.
void is_executed(const void* object, std::size_t size) noexcept;

// The running thread writes to that plain variable.
void is_written(const void* variable) noexcept;

// Where the last run has found a data race on a watched object, for addr2line(1); 0: nowhere.
extern std::size_t raced_at;

}  // namespace models
