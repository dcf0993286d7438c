// sendfile(2), splice(2) and related calls.
#include <tendril/posix.hpp>

#include "posix/common/offload.hpp"
#include "posix/descriptors/file_kind.hpp"
#include "posix/descriptors/wait.hpp"

namespace tendril::posix {

namespace {

// sendfile to a full socket blocks in the kernel, whatever the flags (the kernel stops at a full
// buffer only if the socket is non-blocking). So copies through a buffer of our own, by calls that
// wait cooperatively.
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

// For calls that never wait. The kernel ends them early if any signal is pending, even one that the
// program does not see (the tick); so continues then.
ssize_t send_whole(int out, int in, off_t* at, size_t n) noexcept {
  if (n > 0x7ffff000) n = 0x7ffff000;  // the most that one call transfers
  size_t done = 0;
  for (;;) {
    ssize_t r = real.sendfile(out, in, at, n - done);
    if (r <= 0) return done ? ssize_t(done) : r;
    done += size_t(r);
    if (done == n || interrupted(on_signal::always)) return ssize_t(done);
  }
}

constexpr unsigned nonblock = 2;  // SPLICE_F_NONBLOCK

// Makes the raw call on a helper thread. Helpers get no signals, so SIGPIPE is sent again here.
template <class Call>
long on_helper(Call call, on_signal rule = on_signal::restart) noexcept {
  long r = offload_interruptible(call, rule);
  if (r == -EPIPE) sys::call(SYS_tgkill, sys::getpid(), sys::gettid(), SIGPIPE);
  return r;
}

// How a handler ends a transfer: always if a socket of it has a time-out.
on_signal rule_for(int in, file_kind from, int out, file_kind to) noexcept {
  bool timed = (is_socket(from) && !socket_deadline(in, SO_RCVTIMEO).is_never()) ||
               (is_socket(to) && !socket_deadline(out, SO_SNDTIMEO).is_never());
  return timed ? on_signal::always : on_signal::restart;
}

// For two pipes: `call(flags)` does not wait if the flags include `nonblock`.
template <class Call>
long between_pipes(int in, int out, unsigned flags, Call call) noexcept {
  long r = call(flags | nonblock);
  if (r != -EAGAIN || (flags & nonblock) || !blocks(in) || !blocks(out)) {
    my_hub().charge_budget();
    return r;
  }
  do {
    int w = wait_ready(in, POLLIN);
    if (w == 0) w = wait_ready(out, POLLOUT);
    if (w < 0) return w;
  } while (!ready_now(in, POLLIN));
  return call(flags);
}

}  // namespace

ssize_t sendfile(int out, int in, off_t* at, size_t n) {
  if (!cooperative() || !blocks(out)) return real.sendfile(out, in, at, n);
  file_kind from = look_up_kind(in), to = look_up_kind(out);
  if (!is_socket(to) || from != file_kind::regular) {
    // A pipe that has any room takes what fits, without waiting.
    bool waits = to == file_kind::pipe ? !ready_now(out, POLLOUT) : to != file_kind::regular;
    if (from != file_kind::pipe && !is_socket(from) && !waits) return send_whole(out, in, at, n);
    return result<ssize_t>(
        on_helper([&]() noexcept { return sys::call(SYS_sendfile, out, in, at, n); },
                  rule_for(in, from, out, to)));
  }
  // First the kernel's own checks (access modes, a bad pointer, a shut-down socket, ...).
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
  if (!cooperative() || n == 0) return real.splice(in, in_at, out, out_at, n, flags);
  file_kind from = look_up_kind(in), to = look_up_kind(out);
  auto call = [&](unsigned how) noexcept {
    return sys::call(SYS_splice, in, in_at, out, out_at, n, how);
  };
  if (from == file_kind::pipe && to == file_kind::pipe)
    return result<ssize_t>(between_pipes(in, out, flags, call));
  // Without a pipe at either end it is an error; the kernel reports which.
  if (from != file_kind::pipe && to != file_kind::pipe)
    return real.splice(in, in_at, out, out_at, n, flags);
  // Available data can be moved without waiting if the pipe has room.
  if (is_socket(from) && ready_now(in, POLLIN)) {
    long r = call(flags | nonblock);
    if (r != -EAGAIN) return result<ssize_t>(r);
  }
  return result<ssize_t>(
      on_helper([&]() noexcept { return call(flags); }, rule_for(in, from, out, to)));
}

ssize_t tee(int in, int out, size_t n, unsigned flags) {
  if (!cooperative() || n == 0) return real.tee(in, out, n, flags);
  return result<ssize_t>(between_pipes(
      in, out, flags, [&](unsigned how) noexcept { return sys::call(SYS_tee, in, out, n, how); }));
}

ssize_t vmsplice(int fd, const iovec* v, size_t n, unsigned flags) {
  if (!cooperative() || (flags & nonblock) || look_up_kind(fd) != file_kind::pipe || !blocks(fd)) {
    return real.vmsplice(fd, v, n, flags);
  }
  return result<ssize_t>(
      on_helper([&]() noexcept { return sys::call(SYS_vmsplice, fd, v, n, flags); }));
}

ssize_t copy_file_range(int in, off64_t* in_at, int out, off64_t* out_at, size_t n,
                        unsigned flags) {
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
