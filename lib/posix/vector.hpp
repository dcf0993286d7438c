// A walk through an iovec array that has been written, or filled, in part.
#pragma once

#include <sys/uio.h>

#include <cstddef>

#include "../sys.hpp"

namespace tendril::posix {

class vector_walk {
 public:
  vector_walk(const iovec* v, int n) noexcept : from_(v), count_(n) {
    for (int i = 0; i < n; i++) total_ += v[i].iov_len;
  }
  ~vector_walk() {
    if (copy_ && copy_ != few_) sys::unmap(copy_, std::size_t(count_) * sizeof(iovec));
  }
  vector_walk(const vector_walk&) = delete;

  std::size_t total() const noexcept { return total_; }
  std::size_t done() const noexcept { return done_; }
  std::size_t left() const noexcept { return total_ - done_; }
  const iovec* data() const noexcept { return copy_ ? copy_ + first_ : from_; }
  int size() const noexcept { return count_ - first_; }

  // n more bytes went through. The program's array is const: from the first partial transfer on it is a copy
  // that is walked. False: no memory for it.
  bool advance(std::size_t n) noexcept {
    done_ += n;
    if (left() == 0) return true;
    if (!copy_) {
      copy_ = count_ <= int(sizeof few_ / sizeof *few_) ? few_
                                                        : static_cast<iovec*>(sys::map(std::size_t(count_) * sizeof(iovec)));
      if (!copy_) return false;
      __builtin_memcpy(copy_, from_, std::size_t(count_) * sizeof(iovec));
    }
    while (first_ < count_ && n >= copy_[first_].iov_len) n -= copy_[first_++].iov_len;
    if (n > 0) {
      copy_[first_].iov_base = static_cast<char*>(copy_[first_].iov_base) + n;
      copy_[first_].iov_len -= n;
    }
    return true;
  }

 private:
  const iovec* from_;
  int count_;
  int first_ = 0;
  std::size_t total_ = 0;
  std::size_t done_ = 0;
  iovec* copy_ = nullptr;
  iovec few_[16];
};

}  // namespace tendril::posix
