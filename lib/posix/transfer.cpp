// sendfile(2), splice(2) and their kin.
#include <tendril/posix.hpp>

#include <sys/stat.h>

#include "offload.hpp"

namespace tendril::posix {

namespace {

// sendfile to a socket that is full would block in the kernel, whatever flags there are: so wait for room, send
// what fits (the kernel stops at a full buffer only for non-blocking sockets), by way of a buffer of our own.
long send_file(int out, int in, off_t at, bool at_position, size_t n) noexcept {
  constexpr size_t piece = 64 * 1024;
  char* buffer = static_cast<char*>(sys::map(piece));
  if (!buffer) return -ENOMEM;
  size_t done = 0;
  long r = 0;
  while (done < n) {
    size_t want = n - done < piece ? n - done : piece;
    ssize_t got = posix::pread(in, buffer, want, at + off_t(done));
    if (got <= 0) {
      r = got < 0 ? -errno : 0;
      break;
    }
    ssize_t sent = posix::send(out, buffer, size_t(got), 0);
    if (sent < 0) {
      r = -errno;
      break;
    }
    done += size_t(sent);
    if (sent < got) break;
  }
  sys::unmap(buffer, piece);
  if (at_position) sys::call(SYS_lseek, in, at + off_t(done), SEEK_SET);
  return done ? long(done) : r;
}

// Parks until both ends are ready, as far as they can be watched.
int wait_both(int in, int out) noexcept {
  for (;;) {
    int w = wait_ready(in, POLLIN);
    if (w < 0) return w;
    w = wait_ready(out, POLLOUT);
    if (w < 0) return w;
    if (ready_now(in, POLLIN)) return 0;
  }
}

}  // namespace

ssize_t sendfile(int out, int in, off_t* at, size_t n) {
  if (!cooperative() || kind_of(out) != file_kind::socket || !blocks(out) || look_up_kind(in) != file_kind::regular) {
    return real.sendfile(out, in, at, n);
  }
  // The kernel's own checks first (access modes, a bad pointer, a shut-down socket, ...).
  off_t start = 0;
  if (ssize_t r = real.sendfile(out, in, at, 0); r < 0) return r;
  if (at) {
    start = *at;
  } else {
    long r = sys::call(SYS_lseek, in, 0, SEEK_CUR);
    if (r < 0) return result<ssize_t>(r);
    start = r;
  }
  if (start < 0) return real.sendfile(out, in, at, n);
  if (n > 0x7ffff000) n = 0x7ffff000;  // the most that one call transfers
  long r = send_file(out, in, start, at == nullptr, n);
  if (r > 0 && at) *at = start + r;
  return result<ssize_t>(r);
}

ssize_t splice(int in, off64_t* in_at, int out, off64_t* out_at, size_t n, unsigned flags) {
  constexpr unsigned nonblock = 2;  // SPLICE_F_NONBLOCK
  if (!cooperative() || n == 0) return real.splice(in, in_at, out, out_at, n, flags);
  // Without a pipe at one end it is an error; the kernel knows which.
  file_kind from = look_up_kind(in), to = look_up_kind(out);
  if (from != file_kind::pipe && to != file_kind::pipe) return real.splice(in, in_at, out, out_at, n, flags);
  if (flags & nonblock) {
    if (to != file_kind::socket || !blocks(out)) return real.splice(in, in_at, out, out_at, n, flags);
  }
  int w = flags & nonblock ? 0 : wait_both(in, out);
  if (w < 0 && w != -EAGAIN) return result<ssize_t>(w);
  int error = 0;
  // A socket with too little room would still block, and only a helper may.
  if (to == file_kind::socket || from == file_kind::socket || from == file_kind::regular) {
    ssize_t r = offload([&] {
      ssize_t got = real.splice(in, in_at, out, out_at, n, flags);
      error = errno;
      return got;
    });
    if (r < 0) errno = error;
    return r;
  }
  return real.splice(in, in_at, out, out_at, n, flags);
}

ssize_t tee(int in, int out, size_t n, unsigned flags) {
  if (!cooperative() || (flags & 2) || n == 0) return real.tee(in, out, n, flags);
  if (look_up_kind(in) != file_kind::pipe || look_up_kind(out) != file_kind::pipe) return real.tee(in, out, n, flags);
  int w = wait_both(in, out);
  if (w < 0 && w != -EAGAIN) return result<ssize_t>(w);
  return real.tee(in, out, n, flags);
}

ssize_t vmsplice(int fd, const iovec* v, size_t n, unsigned flags) {
  if (!cooperative() || (flags & 2) || look_up_kind(fd) != file_kind::pipe) return real.vmsplice(fd, v, n, flags);
  // Either end: the pages go in when there is room, and come out when there are some.
  long access = sys::call(SYS_fcntl, fd, F_GETFL);
  int w = wait_ready(fd, (access & O_ACCMODE) == O_RDONLY ? POLLIN : POLLOUT);
  if (w < 0 && w != -EAGAIN) return result<ssize_t>(w);
  int error = 0;
  ssize_t r = offload([&] {
    ssize_t put = real.vmsplice(fd, v, n, flags);
    error = errno;
    return put;
  });
  if (r < 0) errno = error;
  return r;
}

ssize_t copy_file_range(int in, off64_t* in_at, int out, off64_t* out_at, size_t n, unsigned flags) {
  if (!cooperative()) return real.copy_file_range(in, in_at, out, out_at, n, flags);
  int error = 0;
  ssize_t r = offload([&] {
    ssize_t copied = real.copy_file_range(in, in_at, out, out_at, n, flags);
    error = errno;
    return copied;
  });
  if (r < 0) errno = error;
  return r;
}

}  // namespace tendril::posix
