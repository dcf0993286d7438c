// Walks through an iovec array that is transferred in parts. As in the kernel, one call transfers
// at most 2 GB less a page.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "base/sys.hpp"

namespace tendril::posix {

class vector_walk {
 public:
  static constexpr std::size_t most = 0x7ffff000;  // the most that one call transfers
  vector_walk(const iovec* v, int n) noexcept : from_(v), count_(n) {
    for (int i = 0; i < n; i++) {
      if (v[i].iov_len > most - total_) {
        cut(i);
        return;
      }
      total_ += v[i].iov_len;
    }
  }
  ~vector_walk() {
    if (copy_ && copy_ != few_) sys::unmap(copy_, std::size_t(count_) * sizeof(iovec));
  }
  vector_walk(const vector_walk&) = delete;

  std::size_t total() const noexcept { return total_; }
  std::size_t done() const noexcept { return done_; }
  std::size_t left() const noexcept { return total_ - done_; }
  const iovec* data() const noexcept { return copy_ ? copy_ + first_ : from_; }
  int size() const noexcept { return end_ - first_; }

  // n more bytes were transferred. The program's array is const, so the first partial transfer
  // copies it. False: no memory for the copy.
  bool advance(std::size_t n) noexcept {
    done_ += n;
    if (left() == 0) return true;
    if (!copy_ && !make_copy()) return false;
    while (first_ < end_ && n >= copy_[first_].iov_len) n -= copy_[first_++].iov_len;
    if (n > 0) {
      copy_[first_].iov_base =
          reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(copy_[first_].iov_base) + n);
      copy_[first_].iov_len -= n;
    }
    return true;
  }

 private:
  bool make_copy() noexcept {
    copy_ = count_ <= int(sizeof few_ / sizeof *few_)
                ? few_
                : static_cast<iovec*>(sys::map(std::size_t(count_) * sizeof(iovec)));
    if (!copy_) return false;
    __builtin_memcpy(copy_, from_, std::size_t(count_) * sizeof(iovec));
    return true;
  }
  // Ends the array within part i.
  void cut(int i) noexcept {
    if (!make_copy()) return;
    copy_[i].iov_len = most - total_;
    total_ = most;
    end_ = i + 1;
  }

  const iovec* from_;
  int count_;
  int end_ = count_;
  int first_ = 0;
  std::size_t total_ = 0;
  std::size_t done_ = 0;
  iovec* copy_ = nullptr;
  iovec few_[16];
};

}  // namespace tendril::posix
