// read(2), write(2) and their families.
//
// The non-blocking form of a read or write is recvmsg/sendmsg with MSG_DONTWAIT on sockets, and
// preadv2/pwritev2 with RWF_NOWAIT on pipes, eventfds, timerfds and cached files. It changes
// nothing that anybody else could see. Files that refuse it (terminals, inotify, writes to
// eventfds, ...; everything in a sandbox that does not know these calls) are polled first. Writes
// to regular files are made directly.
#include <asm/termbits.h>
#include <limits.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <tendril/posix.hpp>

#include "posix/common/cooperate.hpp"
#include "posix/common/offload.hpp"
#include "posix/descriptors/file_kind.hpp"
#include "posix/descriptors/iovec_cursor.hpp"
#include "posix/descriptors/ring_receive.hpp"
#include "posix/descriptors/wait.hpp"
#include "posix/signals/signalfd_loan.hpp"

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 0x00000008
#endif

namespace tendril::posix {

namespace {

constexpr off_t here = -1;  // preadv2's offset for: at the file position, and advance it

// Makes a call that a sandbox may refuse although it allows a plainer one. -EOPNOTSUPP: the sandbox
// refused it, or that is the call's result.
template <class Call>
[[gnu::always_inline]] inline long unless_refused(long number, Call call) noexcept {
  if (sys::is_refused(number)) [[unlikely]]
    return -EOPNOTSUPP;
  long r = call();
  if (r >= 0 || r == -EAGAIN || r == -EINTR || r == -EOPNOTSUPP) [[likely]]
    return r;
  return sys::turns_out_refused(number) ? -EOPNOTSUPP : r;
}

bool is_plain_io_on_socket(int fd, off_t at, int flags) noexcept {
  return at == here && !flags && is_socket(kind_of(fd));
}

std::size_t length_of(const iovec& v) noexcept {
  return v.iov_len < vector_walk::most ? v.iov_len : vector_walk::most;
}

long receive_nowait(int fd, const iovec* v, int n) noexcept {
  if (n == 1) {
    return unless_refused(SYS_recvfrom, [=]() noexcept {
      return sys::call(SYS_recvfrom, fd, v->iov_base, length_of(*v), MSG_DONTWAIT, 0, 0);
    });
  }
  return unless_refused(SYS_recvmsg, [=]() noexcept {
    msghdr m{};
    m.msg_iov = const_cast<iovec*>(v);
    m.msg_iovlen = std::size_t(n);
    return sys::call(SYS_recvmsg, fd, &m, MSG_DONTWAIT);
  });
}
long send_nowait(int fd, const iovec* v, int n, int flags) noexcept {
  if (kind_of(fd) == file_kind::packets) flags |= MSG_EOR;  // as write(2) does
  if (n == 1) {
    return unless_refused(SYS_sendto, [=]() noexcept {
      return sys::call(SYS_sendto, fd, v->iov_base, length_of(*v), flags | MSG_DONTWAIT, 0, 0);
    });
  }
  return unless_refused(SYS_sendmsg, [=]() noexcept {
    msghdr m{};
    m.msg_iov = const_cast<iovec*>(v);
    m.msg_iovlen = std::size_t(n);
    return sys::call(SYS_sendmsg, fd, &m, flags | MSG_DONTWAIT);
  });
}

// Makes the socket call if fd is a socket. -EOPNOTSUPP: it is not, or a sandbox refuses the call.
template <class Call>
[[gnu::always_inline]] inline long if_socket(int fd, off_t at, int flags, Call call) noexcept {
  if (!is_plain_io_on_socket(fd, at, flags)) return -EOPNOTSUPP;
  long r = call();
  if (r == -ENOTSOCK) [[unlikely]] {  // closed unseen; fd is another file now
    look_up_kind(fd);
    return -EOPNOTSUPP;
  }
  return r;
}

// For both: -EOPNOTSUPP: this file has no such call, or a sandbox refuses it.
[[gnu::always_inline]] inline long read_nowait(int fd, const iovec* v, int n, off_t at,
                                               int flags = 0) noexcept {
  long r = if_socket(fd, at, flags, [=]() noexcept { return receive_nowait(fd, v, n); });
  if (r != -EOPNOTSUPP) return r;
  return unless_refused(SYS_preadv2, [=]() noexcept {
    signalfd_loan loan;
    long got = sys::call(SYS_preadv2, fd, v, n, at, 0, flags | RWF_NOWAIT);
    loan.have_been_read(v, got);
    return got;
  });
}
// `more`: earlier parts of this write were sent, so it must raise no SIGPIPE.
[[gnu::always_inline]] inline long write_nowait(int fd, const iovec* v, int n, off_t at,
                                                int flags = 0, bool more = false) noexcept {
  long r = if_socket(fd, at, flags,
                     [=]() noexcept { return send_nowait(fd, v, n, more ? MSG_NOSIGNAL : 0); });
  if (r != -EOPNOTSUPP) return r;
  return unless_refused(SYS_pwritev2, [=]() noexcept {
    return sys::call(SYS_pwritev2, fd, v, n, at, 0, flags | RWF_NOWAIT);
  });
}

// The calls that the program made, or the closest ones: a sandbox that allows them may allow no
// others.
long read_plain(int fd, const iovec* v, int n, off_t at, int flags = 0) noexcept {
  if (flags) return sys::call(SYS_preadv2, fd, v, n, at, 0, flags);
  if (n == 1) {
    return at != here ? sys::call(SYS_pread64, fd, v->iov_base, v->iov_len, at)
                      : sys::call(SYS_read, fd, v->iov_base, v->iov_len);
  }
  return at != here ? sys::call(SYS_preadv, fd, v, n, at, 0) : sys::call(SYS_readv, fd, v, n);
}
long write_plain(int fd, const iovec* v, int n, off_t at, int flags = 0) noexcept {
  if (flags) return sys::call(SYS_pwritev2, fd, v, n, at, 0, flags);
  if (n == 1) {
    return at != here ? sys::call(SYS_pwrite64, fd, v->iov_base, v->iov_len, at)
                      : sys::call(SYS_write, fd, v->iov_base, v->iov_len);
  }
  return at != here ? sys::call(SYS_pwritev, fd, v, n, at, 0) : sys::call(SYS_writev, fd, v, n);
}

// Whether the array is readable, for callers that have made no system call with it yet.
bool is_readable(const iovec* v, int n) noexcept {
  return on_own_stack(v, std::size_t(n) * sizeof *v) ||
         sys::readable(v, std::size_t(n) * sizeof *v);
}

// Whether the file was opened for that use: O_RDONLY or O_WRONLY. Otherwise the kernel refuses the
// call at once, while the file may never become ready for it.
bool is_opened_for(int fd, int use) noexcept {
  if (sys::is_refused(SYS_fcntl)) return true;
  long flags = sys::call(SYS_fcntl, fd, F_GETFL);
  if (flags < 0) return sys::turns_out_refused(SYS_fcntl);
  int mode = int(flags & O_ACCMODE);
  return !(flags & O_PATH) && (mode == use || mode == O_RDWR);
}

// Whether the program's array is unreadable, which the kernel must report. (Checked here for an
// array of one part; the kernel checks larger ones before we read them.)
bool is_nowhere(const iovec* v, int n) noexcept { return n == 1 && !is_readable(v, n); }

// Reads the rest of a file after `walk` was filled from the page cache: waits for the disk.
long read_from_disk(int fd, vector_walk& walk, off_t at, int flags) noexcept {
  long r = offload([&] {
    return read_plain(fd, walk.data(), walk.size(), at == here ? here : at + off_t(walk.done()),
                      flags);
  });
  if (r < 0) return walk.done() ? long(walk.done()) : r;
  return long(walk.done()) + r;
}

// Whether a read of r bytes has reached the end of the file (or fd is no regular file any more).
bool at_end(int fd, off_t at, long r) noexcept {
  struct stat s;
  if (sys::call_if_allowed(SYS_fstat, fd, &s) < 0 || !S_ISREG(s.st_mode)) return true;
  off_t end = at == here ? sys::call(SYS_lseek, fd, 0, SEEK_CUR) : at + r;
  return end >= s.st_size;
}

// Flags that all kinds of files accept; calls with other flags are left to the kernel.
// RWF_HIPRI, _DSYNC, _SYNC, _APPEND, _NOAPPEND
constexpr int plain_flags = 0x1 | 0x2 | 0x4 | 0x10 | 0x20;

bool is_terminal(int fd) noexcept {
  char settings[64];  // the kernel's struct termios
  return kind_of(fd) == file_kind::character && sys::call(SYS_ioctl, fd, TCGETS, settings) == 0;
}

// /dev/zero, /dev/full, /dev/random and /dev/urandom.
bool is_memory(int fd) noexcept {
  struct stat s;
  if (sys::call_if_allowed(SYS_fstat, fd, &s) < 0 || !S_ISCHR(s.st_mode) || major(s.st_rdev) != 1)
    return false;
  unsigned device = minor(s.st_rdev);
  return device == 5 || device == 7 || device == 8 || device == 9;
}

// Reads of such a device never wait, but the kernel may end them after a page: when the processor
// is needed elsewhere and the read must not wait, or when any signal is pending, even one that the
// program does not see (the tick). If it ends anywhere else, the read is complete.
constexpr long stopping_place = 4096;
bool stopped(long r) noexcept {
  return r > 0 && r % stopping_place == 0 && !interrupted(on_signal::always);
}

// Continues a read of such a device that has returned r bytes.
long read_memory(int fd, const iovec* v, int n, off_t at, int flags, long r) noexcept {
  vector_walk walk(v, n);
  while (stopped(r) && walk.advance(std::size_t(r)) && walk.left()) {
    r = read_plain(fd, walk.data(), walk.size(), at == here ? here : at + off_t(walk.done()),
                   flags);
    if (r > 0 && !stopped(r)) return long(walk.done()) + r;
  }
  return walk.done() ? long(walk.done()) : r;
}

// The conditions for which a terminal in non-canonical mode waits (termios(3)); the default
// elsewhere.
struct terminal_waits {
  unsigned least = 1, tenths = 0;
};
terminal_waits terminal_waits_of(int fd) noexcept {
  struct termios t;  // the kernel's
  int number;
  terminal_waits w;
  // (On the master of a pair, the kernel reports the other end's settings; its own are the
  // default.)
  if (sys::call(SYS_ioctl, fd, TCGETS, &t) < 0 || (t.c_lflag & ICANON) ||
      sys::call(SYS_ioctl, fd, TIOCGPTN, &number) == 0)
    return w;
  w.least = t.c_cc[VMIN];
  w.tenths = t.c_cc[VTIME];
  return w;
}

// Reads a terminal. If a count other than one byte, or a time, ends the wait, only the kernel can
// wait like that.
long read_terminal(int fd, const iovec* v, int n) noexcept {
  // A read of nothing does what precedes any wait: it stops a background job.
  if (long r = sys::call(SYS_read, fd, nullptr, 0); r < 0) return r;
  auto plain = [=]() noexcept { return read_plain(fd, v, n, here); };
  if (!blocks(fd)) return plain();
  terminal_waits waits = terminal_waits_of(fd);
  if (waits.least == 1) {
    int w = wait_ready(fd, POLLIN);
    return w < 0 ? w : plain();
  }
  if (waits.least == 0 && (waits.tenths == 0 || ready_now(fd, POLLIN))) return plain();
  return offload_interruptible(plain);
}

// Reads a file that has no non-blocking form.
long read_when_ready(int fd, const iovec* v, int n, off_t at, int flags) noexcept {
  if (!is_readable(v, n)) return -EFAULT;
  if (!is_opened_for(fd, O_RDONLY)) return read_plain(fd, v, n, at, flags);
  // These have no position.
  if (file_kind k = kind_of(fd); at != here && (is_socket(k) || k == file_kind::pipe))
    return read_plain(fd, v, n, at, flags);
  struct stat s;
  if (kind_of(fd) == file_kind::regular && sys::call_if_allowed(SYS_fstat, fd, &s) == 0 &&
      s.st_size > 0) {
    vector_walk walk(v, n);
    return read_from_disk(fd, walk, at, flags);
  }
  if (is_terminal(fd) && at == here && !flags) return read_terminal(fd, v, n);
  for (;;) {
    int w = wait_ready(fd, POLLIN);
    if (w < 0) return w;
    signalfd_loan loan;
    long r = read_plain(fd, v, n, at, flags);
    loan.have_been_read(v, r);
    // Another process was faster, and a tick interrupted the wait in the kernel.
    if (r == -EINTR && !interrupted(on_signal::restart)) continue;
    return r > 0 && r % stopping_place == 0 && is_memory(fd) ? read_memory(fd, v, n, at, flags, r)
                                                             : r;
  }
}

// Reads a socket by recvmsg(), which heeds SO_RCVLOWAT.
[[gnu::noinline]] long read_by_mark(int fd, const iovec* v, int n) noexcept {
  msghdr m{};
  m.msg_iov = const_cast<iovec*>(v);
  m.msg_iovlen = std::size_t(n);
  int saved = errno;
  long r = posix::recvmsg(fd, &m, 0);
  if (r >= 0) return r;
  r = -errno;
  errno = saved;
  return r;
}

// The rest of a read that has returned r, of files that are no streams.
[[gnu::noinline]] long read_rest(int fd, const iovec* v, int n, off_t at, int flags,
                                 long r) noexcept {
  if (r == core::from_disk) {
    vector_walk walk(v, n);
    return read_from_disk(fd, walk, at, flags);
  }
  if (r == -EOPNOTSUPP) return read_when_ready(fd, v, n, at, flags);
  // EPERM: nothing to wait for
  if (r == -EPERM || kind_of(fd) == file_kind::character) {
    if (r < 0) r = read_plain(fd, v, n, at, flags);
    return r > 0 && r % stopping_place == 0 && is_memory(fd) ? read_memory(fd, v, n, at, flags, r)
                                                             : r;
  }
  // Is it short because the page cache ends, or because the file ends?
  vector_walk walk(v, n);
  if (std::size_t(r) < walk.total() && !at_end(fd, at, r) && walk.advance(std::size_t(r))) {
    return read_from_disk(fd, walk, at, flags);
  }
  return r;
}

// All reads come here; `at` is `here` for those that use the file position.
[[gnu::always_inline]] inline long read_any(int fd, const iovec* v, int n, off_t at,
                                            int flags = 0) noexcept {
  if (at == here && receives_by_mark(fd)) [[unlikely]]
    return read_by_mark(fd, v, n);
  auto room = [=]() noexcept { return n == 1 ? v->iov_len : vector_walk(v, n).total(); };
  long r = until_received(fd, room, [=]() noexcept -> long {
    long got = read_nowait(fd, v, n, at, flags);
    // A file that is not cached never becomes "ready"; epoll does not accept files.
    if (got == -EAGAIN && kind_of(fd) == file_kind::regular &&
        look_up_kind(fd) == file_kind::regular)
      return core::from_disk;
    return got;
  });
  bool is_all = r == 0 || (r < 0 && r != core::from_disk && r != -EOPNOTSUPP && r != -EPERM);
  if (r > 0) {
    file_kind kind = kind_of(fd);
    is_all = kind != file_kind::character && kind != file_kind::regular;
  }
  return is_all ? r : read_rest(fd, v, n, at, flags, r);
}

// Writes the rest of `walk` in pieces to a byte stream that has no non-blocking form.
template <class Write>
long write_pieces(int fd, vector_walk& walk, std::size_t piece, Write write) noexcept {
  while (walk.left()) {
    int w = wait_ready(fd, POLLOUT);
    if (w < 0) return walk.done() ? long(walk.done()) : w;
    iovec first = *walk.data();
    bool last = walk.left() <= piece;
    if (first.iov_len > piece) first.iov_len = piece;
    long r = last ? write(walk.data(), walk.size()) : write(&first, 1);
    if (r < 0) return walk.done() ? long(walk.done()) : r;
    if (!walk.advance(std::size_t(r)) || last || std::size_t(r) < first.iov_len) break;
  }
  return long(walk.done());
}

// An eventfd polls writable while 1 can be added; adding more may have to wait for a reader.
bool adds_more_than_one(int fd, const iovec* v, int n) noexcept {
  std::uint64_t added = 0;
  file_kind kind = core::descriptors::sees_all(fd) ? kind_of(fd) : look_up_kind(fd);
  if (kind != file_kind::event || v->iov_len < sizeof added) return false;
  if (!on_own_stack(v->iov_base, sizeof added) && !sys::readable(v->iov_base, sizeof added))
    return false;
  memcpy(&added, v->iov_base, sizeof added);
  return n != 1 || added > 1;
}

long write_when_ready(int fd, const iovec* v, int n, off_t at, int flags) noexcept {
  if (!is_readable(v, n)) return -EFAULT;
  auto plain = [&](const iovec* part, int parts) noexcept {
    return write_plain(fd, part, parts, at, flags);
  };
  if (!is_opened_for(fd, O_WRONLY)) return plain(v, n);
  file_kind kind = kind_of(fd);
  if (at != here && (is_socket(kind) || kind == file_kind::pipe)) return plain(v, n);
  if (kind == file_kind::pipe ||
      (kind == file_kind::socket && socket_option(fd, SO_TYPE) == SOCK_STREAM)) {
    // A pipe that polls writable has room for PIPE_BUF bytes; a stream socket, which comes here
    // only in a sandbox that allows no other call, for more.
    vector_walk walk(v, n);
    return write_pieces(fd, walk, 4096, plain);
  }
  if (is_terminal(fd)) {
    // A write of nothing stops a background job if necessary. A terminal that polls writable has
    // room for some bytes; if there are more, a helper waits.
    if (long r = sys::call(SYS_write, fd, nullptr, 0); r < 0) return r;
    vector_walk walk(v, n);
    return write_pieces(fd, walk, 512, [&](const iovec* part, int parts) noexcept {
      return offload_interruptible([&] { return plain(part, parts); });
    });
  }
  int w = wait_ready(fd, POLLOUT);
  if (w < 0) return w;
  return adds_more_than_one(fd, v, n) ? offload_interruptible([&] { return plain(v, n); })
                                      : plain(v, n);
}

// The rest of a write, of which r bytes were written at once, or none.
[[gnu::noinline]] long write_rest(int fd, file_kind kind, const iovec* v, int n, off_t at,
                                  int flags, long r) noexcept {
  if (r == -EOPNOTSUPP) return write_when_ready(fd, v, n, at, flags);
  if (r < 0 && r != -EAGAIN) return r;
  vector_walk walk(v, n);
  deadline until = deadline::never();
  bool timed = false;
  for (;;) {
    if (r >= 0) {
      if (!walk.advance(std::size_t(r)) || walk.left() == 0) break;
    } else if (r == -EOPNOTSUPP && !walk.done()) {
      return write_when_ready(fd, v, n, at, flags);  // a sandbox became stricter meanwhile
    } else if (r != -EAGAIN) {
      return walk.done() ? long(walk.done()) : r;
    }
    if (!timed) {
      if (!blocks(fd)) return walk.done() ? long(walk.done()) : -EAGAIN;
      until = socket_deadline(fd, SO_SNDTIMEO);
      timed = true;
    }
    if (r == -EAGAIN) {
      int w =
          wait_for(fd, EPOLLOUT, until, until.is_never() ? on_signal::restart : on_signal::always);
      if (w < 0 && w != -EPERM)
        return walk.done() ? long(walk.done()) : w == -ETIMEDOUT ? -EAGAIN : w;
      if (is_socket(kind) && walk.done() && hung_up(fd)) break;  // the next call reports why
    } else {
      my_hub().charge_budget();
    }
    r = write_nowait(fd, walk.data(), walk.size(), at == here ? here : at + off_t(walk.done()),
                     flags, walk.done() != 0);
  }
  my_hub().charge_budget();
  return long(walk.done());
}

// All writes come here. A blocking write returns when everything is written, or with the count
// before an error.
[[gnu::always_inline]] inline long write_any(int fd, const iovec* v, int n, off_t at,
                                             int flags = 0) noexcept {
  file_kind kind = kind_of(fd);
  if (kind == file_kind::regular) return write_plain(fd, v, n, at, flags);
  // (An eventfd is known to refuse it.)
  bool refuses = kind == file_kind::event && core::descriptors::sees_all(fd);
  long r = refuses ? -EOPNOTSUPP : write_nowait(fd, v, n, at, flags);
  if (r < 0 || n != 1 || r != long(v->iov_len)) [[unlikely]]
    return write_rest(fd, kind, v, n, at, flags, r);
  my_hub().charge_budget();
  return r;
}

// Calls that fail at once or never wait: for zero bytes, or for more than possible.
bool trivial(int fd, size_t n) noexcept {
  if (n) return n > SSIZE_MAX;
  file_kind k = kind_of(fd);
  return k > file_kind::regular && !is_socket(k);
}

}  // namespace

ssize_t read(int fd, void* buf, size_t n) {
  // (A read of nothing from a connection does not wait, even if it is empty.)
  if (!cooperative() || trivial(fd, n) || (n == 0 && is_socket(kind_of(fd))))
    return real.read(fd, buf, n);
  if (my_hub().io.wants_ring()) [[unlikely]] {
    if (long r = receive_by_ring(fd, buf, n); r != core::not_by_ring) return result(r);
  }
  iovec v{buf, n};
  return result(read_any(fd, &v, 1, here));
}

ssize_t write(int fd, const void* buf, size_t n) {
  if (!cooperative() || trivial(fd, n)) return real.write(fd, buf, n);
  iovec v{const_cast<void*>(buf), n};
  return result(write_any(fd, &v, 1, here));
}

ssize_t readv(int fd, const iovec* v, int n) {
  if (!cooperative() || n <= 0 || n > 1024 || is_nowhere(v, n)) return real.readv(fd, v, n);
  return result(read_any(fd, v, n, here));
}

ssize_t writev(int fd, const iovec* v, int n) {
  if (!cooperative() || n <= 0 || n > 1024 || is_nowhere(v, n)) return real.writev(fd, v, n);
  return result(write_any(fd, v, n, here));
}

ssize_t pread(int fd, void* buf, size_t n, off_t at) {
  if (!cooperative() || at < 0 || trivial(fd, n)) return real.pread(fd, buf, n, at);
  iovec v{buf, n};
  return result(read_any(fd, &v, 1, at));
}

ssize_t pwrite(int fd, const void* buf, size_t n, off_t at) {
  if (!cooperative() || at < 0 || trivial(fd, n)) return real.pwrite(fd, buf, n, at);
  iovec v{const_cast<void*>(buf), n};
  return result(write_any(fd, &v, 1, at));
}

ssize_t preadv(int fd, const iovec* v, int n, off_t at) {
  if (!cooperative() || at < 0 || n <= 0 || n > 1024 || is_nowhere(v, n))
    return real.preadv(fd, v, n, at);
  return result(read_any(fd, v, n, at));
}

ssize_t pwritev(int fd, const iovec* v, int n, off_t at) {
  if (!cooperative() || at < 0 || n <= 0 || n > 1024 || is_nowhere(v, n))
    return real.pwritev(fd, v, n, at);
  return result(write_any(fd, v, n, at));
}

ssize_t preadv2(int fd, const iovec* v, int n, off_t at, int flags) {
  if (!cooperative() || at < -1 || n <= 0 || n > 1024 || (flags & ~plain_flags) || is_nowhere(v, n))
    return real.preadv2(fd, v, n, at, flags);
  return result(read_any(fd, v, n, at, flags));
}

ssize_t pwritev2(int fd, const iovec* v, int n, off_t at, int flags) {
  if (!cooperative() || at < -1 || n <= 0 || n > 1024 || (flags & ~plain_flags) || is_nowhere(v, n))
    return real.pwritev2(fd, v, n, at, flags);
  return result(write_any(fd, v, n, at, flags));
}

ssize_t getrandom(void* to, size_t n, unsigned flags) {
  if (n <= std::size_t(stopping_place) || !cooperative()) return real.getrandom(to, n, flags);
  std::size_t done = 0;
  for (;;) {
    long r = sys::call(SYS_getrandom, static_cast<char*>(to) + done, n - done, flags);
    if (r <= 0) return done ? ssize_t(done) : result(r);
    done += std::size_t(r);
    if (done == n || !stopped(r)) return ssize_t(done);
  }
}

int eventfd_read(int fd, eventfd_t* value) {
  return posix::read(fd, value, sizeof *value) == sizeof *value ? 0 : -1;
}
int eventfd_write(int fd, eventfd_t value) {
  return posix::write(fd, &value, sizeof value) == sizeof value ? 0 : -1;
}

}  // namespace tendril::posix
