#include "posix/descriptors/file_kind.hpp"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "events/descriptors.hpp"
#include "posix/descriptors/wait.hpp"

namespace tendril::posix {

void note_kind(int fd, file_kind k) noexcept {
  if (core::descriptor* d = core::descriptors::at(fd)) {
    d->kind.store(d->generation.load(std::memory_order_relaxed) << 3 | std::uint32_t(k),
                  std::memory_order_relaxed);
  }
}

namespace {

// A file of no file system has no type, but it has a name.
bool is_eventfd(int fd, const struct stat& s) noexcept {
  if (s.st_mode & S_IFMT) return false;
  char path[32] = "/proc/self/fd/", target[32] = {};
  sys::number digits(fd);
  memcpy(path + strlen(path), digits.digits, std::size_t(digits.length));
  return sys::call(SYS_readlinkat, AT_FDCWD, path, target, sizeof target - 1) > 0 &&
         !strcmp(target, "anon_inode:[eventfd]");
}

}  // namespace

file_kind look_up_kind(int fd) noexcept {
  struct stat s;
  if (sys::call_if_allowed(SYS_fstat, fd, &s) < 0) return file_kind::unknown;
  file_kind k = S_ISSOCK(s.st_mode)   ? kind_of_socket(socket_option(fd, SO_TYPE))
                : S_ISFIFO(s.st_mode) ? file_kind::pipe
                : S_ISREG(s.st_mode)  ? file_kind::regular
                : S_ISCHR(s.st_mode)  ? file_kind::character
                : is_eventfd(fd, s)   ? file_kind::event
                                      : file_kind::other;
  note_kind(fd, k);
  return k;
}

file_kind kind_of(int fd) noexcept {
  if (core::descriptor* d = core::descriptors::at(fd)) {
    std::uint32_t known = d->kind.load(std::memory_order_relaxed);
    if ((known & 7) && known >> 3 == (d->generation.load(std::memory_order_relaxed) & (~0U >> 3))) {
      return file_kind(known & 7);
    }
  }
  return look_up_kind(fd);
}

}  // namespace tendril::posix
