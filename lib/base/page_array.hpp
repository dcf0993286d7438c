// A growing array of trivial elements on pages of its own, so that growing it never enters malloc.
#pragma once

#include <cstddef>

#include "base/sys.hpp"

namespace tendril::core {

template <class T>
class page_array {
 public:
  ~page_array() {
    if (data_) sys::unmap(data_, capacity_ * sizeof(T));
  }
  T& operator[](std::size_t i) noexcept { return data_[i]; }
  T* data() noexcept { return data_; }
  const T* data() const noexcept { return data_; }
  std::size_t capacity() const noexcept { return capacity_; }
  // Makes room for at least n elements; false when there is no memory. New elements are zero bytes.
  bool reserve(std::size_t n) noexcept {
    if (n <= capacity_) return true;
    std::size_t c = capacity_ ? capacity_ : 4096 / sizeof(T);
    while (c < n) c *= 2;
    void* p =
        data_ ? sys::remap(data_, capacity_ * sizeof(T), c * sizeof(T)) : sys::map(c * sizeof(T));
    if (!p) return false;
    data_ = static_cast<T*>(p);
    capacity_ = c;
    return true;
  }

 private:
  T* data_ = nullptr;
  std::size_t capacity_ = 0;
};

}  // namespace tendril::core
