// Reads and writes the program's memory as a system call does: a bad pointer gives EFAULT, not a
// crash.
#pragma once

#include <string.h>

#include <cstddef>

#include "base/sys.hpp"

namespace tendril::posix {

// False: EFAULT; part of the output may have been written.
inline bool copy_in(void* to, const void* from, std::size_t n) noexcept {
  if (!sys::readable(from, n)) return false;
  memcpy(to, from, n);
  return true;
}
bool copy_out(void* to, const void* from, std::size_t n) noexcept;

template <class T>
bool copy_in(T& to, const T* from) noexcept {
  return copy_in(&to, from, sizeof to);
}
template <class T>
bool copy_out(T* to, const T& from) noexcept {
  return copy_out(to, &from, sizeof from);
}

// Copies a string of at most n bytes; without a terminating zero if it has n.
bool copy_text_in(char* to, const char* from, std::size_t n) noexcept;

}  // namespace tendril::posix
