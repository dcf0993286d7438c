// read(2), write(2) and their families.
//
// The non-blocking form of a read or a write is preadv2/pwritev2 with RWF_NOWAIT: it works on sockets, pipes,
// eventfds, timerfds and cached files, and changes nothing that anybody else could see. What refuses it
// (terminals, inotify, writes to eventfds, ...) is polled first. Writes to files are simply made.
#include <sys/stat.h>
#include <tendril/posix.hpp>

#include "cooperate.hpp"
#include "offload.hpp"
#include "vector.hpp"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x00000008
#endif

namespace tendril::posix {

namespace {

constexpr off_t here = -1;  // preadv2's way to say: at the file position, and move it

long read_nowait(int fd, const iovec* v, int n, off_t at, int flags = 0) noexcept {
  return sys::call(SYS_preadv2, fd, v, n, at, 0, flags | RWF_NOWAIT);
}
long write_nowait(int fd, const iovec* v, int n, off_t at, int flags = 0) noexcept {
  return sys::call(SYS_pwritev2, fd, v, n, at, 0, flags | RWF_NOWAIT);
}
long read_plain(int fd, const iovec* v, int n, off_t at, int flags = 0) noexcept {
  return flags || at != here ? sys::call(SYS_preadv2, fd, v, n, at, 0, flags) : sys::call(SYS_readv, fd, v, n);
}
long write_plain(int fd, const iovec* v, int n, off_t at, int flags = 0) noexcept {
  return flags || at != here ? sys::call(SYS_pwritev2, fd, v, n, at, 0, flags) : sys::call(SYS_writev, fd, v, n);
}

// The rest of a read of a file, of which `walk` has come from the page cache: it waits for the disk.
long read_from_disk(int fd, vector_walk& walk, off_t at, int flags) noexcept {
  long r = offload([&] {
    return read_plain(fd, walk.data(), walk.size(), at == here ? here : at + off_t(walk.done()), flags);
  });
  if (r < 0) return walk.done() ? long(walk.done()) : r;
  return long(walk.done()) + r;
}

// Whether a read of r bytes got to the end of the file (or fd is no file any more).
bool at_end(int fd, off_t at, long r) noexcept {
  struct stat s;
  if (sys::call(SYS_fstat, fd, &s) < 0 || !S_ISREG(s.st_mode)) return true;
  off_t end = at == here ? sys::call(SYS_lseek, fd, 0, SEEK_CUR) : at + r;
  return end >= s.st_size;
}

// All reads end here; `at` is `here` for those that use the file position.
long read_any(int fd, const iovec* v, int n, off_t at, int flags = 0) noexcept {
  long r = until_done(fd, EPOLLIN, SO_RCVTIMEO, [&]() noexcept -> long {
    long got = read_nowait(fd, v, n, at, flags);
    // A cold file never becomes "ready": epoll does not even take it.
    if (got == -EAGAIN && kind_of(fd) == file_kind::regular && look_up_kind(fd) == file_kind::regular) return -EUCLEAN;
    return got;
  });
  if (r == -EUCLEAN) {
    vector_walk walk(v, n);
    return read_from_disk(fd, walk, at, flags);
  }
  if (r == -EOPNOTSUPP && !(flags & RWF_NOWAIT)) {
    int w = wait_ready(fd, POLLIN);
    if (w < 0) return w;
    return read_plain(fd, v, n, at, flags);
  }
  if (r > 0 && kind_of(fd) == file_kind::regular) {
    // Cut short where the page cache ends, or is it the end of the file?
    vector_walk walk(v, n);
    if (std::size_t(r) < walk.total() && !at_end(fd, at, r) && walk.advance(std::size_t(r))) {
      return read_from_disk(fd, walk, at, flags);
    }
  }
  return r;
}

// Writes to what has no non-blocking form, in pieces that fit when poll() says that there is room.
long write_pieces(int fd, vector_walk& walk, off_t at, int flags) noexcept {
  // A pipe that polls writable has room for PIPE_BUF bytes; a terminal for some, and 512 never hurt.
  const std::size_t piece = kind_of(fd) == file_kind::pipe ? 4096 : 512;
  do {
    int w = wait_ready(fd, POLLOUT);
    if (w < 0) return walk.done() ? long(walk.done()) : w;
    iovec first = *walk.data();
    if (walk.left() <= piece) {
      long r = write_plain(fd, walk.data(), walk.size(), at == here ? here : at + off_t(walk.done()), flags);
      if (r < 0) return walk.done() ? long(walk.done()) : r;
      return long(walk.done()) + r;
    }
    if (first.iov_len > piece) first.iov_len = piece;
    long r = write_plain(fd, &first, 1, at == here ? here : at + off_t(walk.done()), flags);
    if (r < 0) return walk.done() ? long(walk.done()) : r;
    if (!walk.advance(std::size_t(r)) || std::size_t(r) < first.iov_len) break;
  } while (walk.left());
  return long(walk.done());
}

// All writes end here. A blocking write returns when everything is written, or with what went through before
// an error.
long write_any(int fd, const iovec* v, int n, off_t at, int flags = 0) noexcept {
  if (kind_of(fd) == file_kind::regular) return write_plain(fd, v, n, at, flags);
  long r = write_nowait(fd, v, n, at, flags);
  if (r == -EFAULT || r == -EINVAL || r == -EBADF || r == -EPIPE) return r;
  vector_walk walk(v, n);
  deadline until = deadline::never();
  bool timed = false;
  for (;;) {
    if (r == -EOPNOTSUPP && !(flags & RWF_NOWAIT)) return write_pieces(fd, walk, at, flags);
    if (r >= 0) {
      if (!walk.advance(std::size_t(r)) || walk.left() == 0) break;
    } else if (r != -EAGAIN) {
      return walk.done() ? long(walk.done()) : r;
    }
    if (!timed) {
      if (!blocks(fd)) return walk.done() ? long(walk.done()) : -EAGAIN;
      until = socket_deadline(fd, SO_SNDTIMEO);
      timed = true;
    }
    if (r == -EAGAIN) {
      int w = wait_for(fd, EPOLLOUT, until, until.is_never() ? on_signal::restart : on_signal::always);
      if (w < 0 && w != -EPERM) return walk.done() ? long(walk.done()) : w == -ETIMEDOUT ? -EAGAIN : w;
    }
    r = write_nowait(fd, walk.data(), walk.size(), at == here ? here : at + off_t(walk.done()), flags);
  }
  my_hub().breathe();
  return long(walk.done());
}

}  // namespace

ssize_t read(int fd, void* buf, size_t n) {
  if (!cooperative()) return real.read(fd, buf, n);
  iovec v{buf, n};
  return result(read_any(fd, &v, 1, here));
}

ssize_t write(int fd, const void* buf, size_t n) {
  if (!cooperative()) return real.write(fd, buf, n);
  iovec v{const_cast<void*>(buf), n};
  return result(write_any(fd, &v, 1, here));
}

ssize_t readv(int fd, const iovec* v, int n) {
  if (!cooperative() || n <= 0 || n > 1024) return real.readv(fd, v, n);
  return result(read_any(fd, v, n, here));
}

ssize_t writev(int fd, const iovec* v, int n) {
  if (!cooperative() || n <= 0 || n > 1024) return real.writev(fd, v, n);
  return result(write_any(fd, v, n, here));
}

ssize_t pread(int fd, void* buf, size_t n, off_t at) {
  if (!cooperative() || at < 0) return real.pread(fd, buf, n, at);
  iovec v{buf, n};
  return result(read_any(fd, &v, 1, at));
}

ssize_t pwrite(int fd, const void* buf, size_t n, off_t at) {
  if (!cooperative() || at < 0) return real.pwrite(fd, buf, n, at);
  iovec v{const_cast<void*>(buf), n};
  return result(write_any(fd, &v, 1, at));
}

ssize_t preadv(int fd, const iovec* v, int n, off_t at) {
  if (!cooperative() || at < 0 || n <= 0 || n > 1024) return real.preadv(fd, v, n, at);
  return result(read_any(fd, v, n, at));
}

ssize_t pwritev(int fd, const iovec* v, int n, off_t at) {
  if (!cooperative() || at < 0 || n <= 0 || n > 1024) return real.pwritev(fd, v, n, at);
  return result(write_any(fd, v, n, at));
}

ssize_t preadv2(int fd, const iovec* v, int n, off_t at, int flags) {
  if (!cooperative() || at < -1 || n <= 0 || n > 1024 || (flags & RWF_NOWAIT)) return real.preadv2(fd, v, n, at, flags);
  return result(read_any(fd, v, n, at, flags));
}

ssize_t pwritev2(int fd, const iovec* v, int n, off_t at, int flags) {
  if (!cooperative() || at < -1 || n <= 0 || n > 1024 || (flags & RWF_NOWAIT)) return real.pwritev2(fd, v, n, at, flags);
  return result(write_any(fd, v, n, at, flags));
}

}  // namespace tendril::posix
