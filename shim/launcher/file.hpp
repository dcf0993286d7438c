// A file opened for reading; it is closed at the end of the scope.
#pragma once

#include <fcntl.h>
#include <unistd.h>

namespace tendril::launcher {

class file {
 public:
  explicit file(const char* path) : fd_(open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)) {}
  ~file() {
    if (fd_ >= 0) close(fd_);
  }
  file(const file&) = delete;
  file& operator=(const file&) = delete;

  bool is_open() const { return fd_ >= 0; }
  int descriptor() const { return fd_; }

 private:
  int fd_;
};

}  // namespace tendril::launcher
