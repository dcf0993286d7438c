// The sets of a call of select(2).
#pragma once

#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include <cstddef>
#include <cstdint>

#include "base/sys.hpp"

namespace tendril::posix {

// The bits of the three sets, copied because select(2) clears those that are not ready.
class select_sets {
 public:
  select_sets(int n, fd_set* r, fd_set* w, fd_set* x) noexcept
      : n_(n), bytes_(std::size_t(n + 63) / 64 * 8) {
    fd_set* sets[] = {r, w, x};
    if (bytes_ > sizeof few_[0]) many_ = static_cast<char*>(sys::map(bytes_ * 3));
    for (int i = 0; ok() && i < 3; i++) {
      theirs_[i] = sets[i];
      if (!sets[i]) continue;
      for (std::size_t at = 0; at < bytes_; at += 4096) {
        if (sys::readable(reinterpret_cast<char*>(sets[i]) + at,
                          bytes_ - at < 4096 ? bytes_ - at : 4096))
          continue;
        bad_ = true;
        return;
      }
      memcpy(mine(i), sets[i], bytes_);
    }
  }
  ~select_sets() {
    if (many_) sys::unmap(many_, bytes_ * 3);
  }
  select_sets(const select_sets&) = delete;
  // How many descriptors a call with this n looks at, as the kernel limits it: programs pass
  // getdtablesize() with sets that have room for FD_SETSIZE. The kernel's own limit includes the
  // runtime's descriptors.
  static int reach(int n) noexcept { return n <= FD_SETSIZE ? n : reach_of_many(n); }
  bool ok() const noexcept { return bytes_ <= sizeof few_[0] || many_; }
  bool bad() const noexcept { return bad_; }
  // Makes the real call, with a time-out of zero, with the sets that the program passed. The first
  // such call finds them as they were; it fails if they cannot be written to.
  long now(const sigset_t* mask) noexcept;
  // Restores the program's sets, as a call that fails leaves them unchanged.
  long fail(int error) noexcept {
    restore();
    return error;
  }
  // How many descriptors each() calls for.
  int count() noexcept {
    int c = 0;
    each([&](int, std::uint32_t) { c++; });
    return c;
  }
  // Calls f(descriptor, events to wait for) for each that is in one of the sets.
  template <class F>
  void each(F f) noexcept {
    static constexpr std::uint32_t events[] = {EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR,
                                               EPOLLOUT | EPOLLERR, EPOLLPRI};
    for (std::size_t word = 0; word < bytes_ / 8; word++) {
      std::uint64_t bits[3] = {};
      for (int i = 0; i < 3; i++) {
        if (theirs_[i]) memcpy(&bits[i], mine(i) + word * 8, 8);
      }
      for (std::uint64_t any = bits[0] | bits[1] | bits[2]; any; any &= any - 1) {
        int bit = __builtin_ctzll(any);
        int fd = int(word * 64) + bit;
        if (fd >= n_) return;
        std::uint32_t wanted = 0;
        for (int i = 0; i < 3; i++) wanted |= bits[i] >> bit & 1 ? events[i] : 0;
        f(fd, wanted);
      }
    }
  }

 private:
  static int reach_of_many(int n) noexcept;
  void restore() noexcept {
    if (!changed_) return;
    for (int i = 0; i < 3; i++) {
      if (theirs_[i]) memcpy(theirs_[i], mine(i), bytes_);
    }
  }
  char* mine(int i) noexcept { return many_ ? many_ + bytes_ * std::size_t(i) : few_[i]; }
  int n_;
  std::size_t bytes_;
  bool bad_ = false;
  bool changed_ = false;  // the kernel has written to the program's sets
  fd_set* theirs_[3] = {};
  char few_[3][FD_SETSIZE / 8];
  char* many_ = nullptr;
};

}  // namespace tendril::posix
