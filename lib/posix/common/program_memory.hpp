// The program's memory, read and written as the kernel does it for a system call: a bad pointer is
// EFAULT and no crash.
#pragma once

#include <string.h>

#include <cstddef>

#include "base/sys.hpp"

namespace tendril::posix {

// False: EFAULT. What is written may be written in part then.
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

// A text of at most n bytes, without its end if it has as many.
bool copy_text_in(char* to, const char* from, std::size_t n) noexcept;

}  // namespace tendril::posix
