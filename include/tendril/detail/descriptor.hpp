// An owned descriptor, and how errors of cooperative calls become exceptions. Not for programs.
#pragma once

#include <cerrno>
#include <system_error>
#include <utility>

#include "../posix.hpp"
#include "outcome.hpp"

namespace tendril::detail {

class [[nodiscard]] owned_fd {
 public:
  explicit owned_fd(int fd = -1) noexcept : fd_(fd) {}
  owned_fd(owned_fd&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  owned_fd& operator=(owned_fd&& o) noexcept {
    if (this != &o) {
      reset();
      fd_ = std::exchange(o.fd_, -1);
    }
    return *this;
  }
  ~owned_fd() { reset(); }
  int get() const noexcept { return fd_; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  // Closes the descriptor; keeps errno.
  void reset() noexcept {
    if (fd_ < 0) return;
    int saved = errno;
    posix::close(std::exchange(fd_, -1));
    errno = saved;
  }

 private:
  int fd_;
};

// Throws the error in errno. ECANCELED becomes the exception of the kill or time-out that ended the
// call; EAGAIN, a time-out of the descriptor, becomes std::errc::timed_out.
[[noreturn]] inline void throw_errno(const char* call) {
  int e = errno;
  if (e == ECANCELED) throw_if_interrupted();
  // these descriptors are blocking, so it is SO_RCVTIMEO or SO_SNDTIMEO
  if (e == EAGAIN) e = ETIMEDOUT;
  throw std::system_error(e, std::generic_category(), call);
}

// Makes a call, and repeats it if a signal handler interrupted it (PEP 475). Returns its result, or
// throws.
template <class Call>
auto checked_call(const char* name, Call call) {
  for (;;) {
    auto r = call();
    if (r >= 0) return r;
    if (errno != EINTR) throw_errno(name);
  }
}

}  // namespace tendril::detail
