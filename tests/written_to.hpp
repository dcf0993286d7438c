// What a function writes to a descriptor, such as standard error.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <string>

template <class F>
std::string written_to(int fd, F f) {
  std::fflush(nullptr);
  int output = ::memfd_create("output", MFD_CLOEXEC), before = ::dup(fd);
  ::dup2(output, fd);
  f();
  std::fflush(nullptr);
  ::dup2(before, fd);
  std::string text(std::size_t(::lseek(output, 0, SEEK_END)), '\0');
  (void)!::pread(output, text.data(), text.size(), 0);
  ::close(output);
  ::close(before);
  return text;
}
