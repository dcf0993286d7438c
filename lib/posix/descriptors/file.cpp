// Calls on files that may block: locks (possibly forever) and flushing to disk (for a while).
// Helper threads make them, except for a lock that is free; they also open FIFOs.
#include <tendril/posix.hpp>

#include <sys/ioctl.h>

#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "posix/common/offload.hpp"
#include "posix/threads/thread.hpp"

namespace tendril::posix {

namespace {

// F_SETLKW and F_OFD_SETLKW.
long record_lock(int fd, int command, const struct flock* lock) noexcept {
  long r = sys::call(SYS_fcntl, fd, command == F_SETLKW ? F_SETLK : F_OFD_SETLK, lock);
  if (r != -EAGAIN && r != -EACCES) return r;
  return offload_interruptible([&] { return sys::call(SYS_fcntl, fd, command, lock); });
}

template <class Call>
int flush(Call call) noexcept {
  int error = 0;
  int r = offload([&] {
    int value = call();
    error = errno;
    return value;
  });
  if (r < 0) errno = error;
  return r;
}

}  // namespace

int flock(int fd, int operation) {
  no_cancellation_point guard;
  if (!cooperative() || (operation & (LOCK_NB | LOCK_UN))) return real.flock(fd, operation);
  long r = sys::call(SYS_flock, fd, operation | LOCK_NB);
  if (r != -EAGAIN) return result<int>(r);
  return result<int>(offload_interruptible([&] { return sys::call(SYS_flock, fd, operation); }));
}

int lockf(int fd, int command, off_t len) {
  if (!cooperative() || command != F_LOCK) return real.lockf(fd, command, len);
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_CUR;
  lock.l_len = len;
  return result<int>(record_lock(fd, F_SETLKW, &lock));
}

int fcntl(int fd, int command, void* argument) {
  if (command == F_SETFL) {
    int r = real.fcntl(fd, command, argument);
    core::descriptors::modes_changed();
    return r;
  }
  bool waits = command == F_SETLKW || command == F_OFD_SETLKW;
  if (!waits || !cooperative()) return real.fcntl(fd, command, argument);
  return result<int>(record_lock(fd, command, static_cast<struct flock*>(argument)));
}

int ioctl(int fd, unsigned long request, void* argument) {
  int r = real.ioctl(fd, request, argument);
  if (request == FIONBIO) core::descriptors::modes_changed();
  return r;
}

int fsync(int fd) {
  if (!cooperative()) return real.fsync(fd);
  return flush([&] { return real.fsync(fd); });
}

int fdatasync(int fd) {
  if (!cooperative()) return real.fdatasync(fd);
  return flush([&] { return real.fdatasync(fd); });
}

int syncfs(int fd) {
  if (!cooperative()) return real.syncfs(fd);
  return flush([&] { return real.syncfs(fd); });
}

int sync_file_range(int fd, off64_t from, off64_t n, unsigned flags) {
  if (!cooperative()) return real.sync_file_range(fd, from, n, flags);
  return flush([&] { return real.sync_file_range(fd, from, n, flags); });
}

// File systems in memory undo a partial allocation if any signal is pending, even one that the
// program does not see (the tick); so a helper makes these calls.

int fallocate(int fd, int mode, off_t at, off_t n) {
  if (!cooperative()) return real.fallocate(fd, mode, at, n);
  return result<int>(offload_interruptible(
      [&] { return sys::call(SYS_fallocate, fd, mode, at, n); }, on_signal::always));
}

int posix_fallocate(int fd, off_t at, off_t n) {
  no_cancellation_point guard;
  if (!cooperative()) return real.posix_fallocate(fd, at, n);
  long r = offload_interruptible([&] { return sys::call(SYS_fallocate, fd, 0, at, n); },
                                 on_signal::always);
  return r == -EOPNOTSUPP ? real.posix_fallocate(fd, at, n) : int(-r);
}

int msync(void* p, size_t n, int flags) {
  if (!cooperative() || !(flags & MS_SYNC)) return real.msync(p, n, flags);
  return flush([&] { return real.msync(p, n, flags); });
}

void sync() {
  if (!cooperative()) return real.sync();
  flush([&] { return real.sync(), 0; });
}

namespace {

// Opening a FIFO waits for the other end. Other uses of open(2) are not worth a helper thread.
bool waits_for_peer(int dir, const char* path, int flags) noexcept {
  if ((flags & (O_NONBLOCK | O_CREAT | O_PATH | O_DIRECTORY)) || (flags & O_ACCMODE) == O_RDWR ||
      !cooperative())
    return false;
  struct stat s;
  return sys::call(SYS_newfstatat, dir, path, &s, 0) == 0 && S_ISFIFO(s.st_mode);
}

int open_on_helper(int dir, const char* path, int flags) noexcept {
  return result<int>(
      offload_interruptible([&] { return sys::call(SYS_openat, dir, path, flags, 0); }));
}

}  // namespace

int open(const char* path, int flags, mode_t mode) {
  return waits_for_peer(AT_FDCWD, path, flags) ? open_on_helper(AT_FDCWD, path, flags)
                                               : real.open(path, flags, mode);
}

int openat(int dir, const char* path, int flags, mode_t mode) {
  return waits_for_peer(dir, path, flags) ? open_on_helper(dir, path, flags)
                                          : real.openat(dir, path, flags, mode);
}

}  // namespace tendril::posix
