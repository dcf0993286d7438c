#include "cooperate.hpp"

#include <poll.h>
#include <sys/stat.h>

#include "../helpers.hpp"

namespace tendril::posix {

namespace {

constinit std::atomic<bool> always{false};

// Still inside the signal handler that was entered at this frame? A handler that was left by longjmp is
// noticed by the stack having shrunk past it, or by being another stack altogether.
bool in_handler(hub& h, fiber* self) noexcept {
  const void* frame = h.handler_frame;
  if (!frame) return false;
  const void* here = arch::stack_pointer();
  bool deeper = here <= frame && static_cast<const char*>(frame) - static_cast<const char*>(here) < (8 << 20);
  if (deeper) return true;
  bool here_on_fiber = self->stk.size && here >= self->stk.base && here < self->stk.base + self->stk.size;
  bool frame_on_fiber = self->stk.size && frame >= self->stk.base && frame < self->stk.base + self->stk.size;
  if (here_on_fiber != frame_on_fiber && !here_on_fiber) return true;  // a handler's alternate stack
  h.handler_frame = nullptr;
  return false;
}

// The wait of a process that only borrows our memory (a vfork child): plainly blocking.
int wait_in_kernel(int fd, std::uint32_t events, deadline until) noexcept {
  pollfd p{.fd = fd, .events = short(events), .revents = 0};  // EPOLLIN and POLLIN, ... are the same bits
  timespec wait{}, *timeout = nullptr;
  if (!until.is_never()) {
    wait = time_left(until);
    timeout = &wait;
  }
  long r = sys::call(SYS_ppoll, &p, fd >= 0 ? 1 : 0, timeout, 0, 8);
  return r == 0 ? -ETIMEDOUT : r < 0 ? int(r) : 0;
}

}  // namespace

void cooperate_always() noexcept { always = true; }

bool cooperative_here(fiber* self) noexcept {
  hub& h = *hub::of(self);
  if (h.unfinished == 0 && !always.load(std::memory_order_relaxed)) return false;
  return !(h.handler_frame && in_handler(h, self));
}

bool in_hubs_process() noexcept { return my_hub().pid == sys::getpid(); }

int wait_parked(const core::wait_info& what, deadline until, on_signal rule) noexcept {
  if (!in_hubs_process()) return wait_in_kernel(-1, 0, until);
  int saved = errno;  // other fibers run meanwhile, and a call that succeeds leaves errno alone
  signal_watch watch(my_hub());
  int r = 0;
  switch (core::park(until.at, what)) {
    case core::wake::timeout:
      r = -ETIMEDOUT;
      break;
    case core::wake::interrupted:
      r = -ECANCELED;
      break;
    case core::wake::closed:
      r = -EBADF;
      break;
    case core::wake::signal:
      if (watch.interrupts(rule)) r = -EINTR;
      break;
    default:
      break;
  }
  errno = saved;
  return r;
}

int wait_for(int fd, std::uint32_t events, deadline until, on_signal rule) noexcept {
  if (!in_hubs_process()) return wait_in_kernel(fd, events, until);
  core::io_waiter w;
  w.who = core::current;
  w.fd = fd;
  w.events = events;
  hub& h = my_hub();
  int r = h.io.add(w);
  if (r < 0) return r;
  core::wait_info what;
  what.kind = core::wait_kind::descriptor;
  what.fd = fd;
  what.interruptible = true;
  r = wait_parked(what, until, rule);
  h.io.remove(w);
  return r;
}

deadline socket_deadline(int fd, int option) noexcept {
  timeval t{};
  socklen_t n = sizeof t;
  if (sys::call(SYS_getsockopt, fd, SOL_SOCKET, option, &t, &n) < 0 || (t.tv_sec == 0 && t.tv_usec == 0)) {
    return deadline::never();
  }
  return deadline::after(core::now(), t.tv_sec * 1'000'000'000L + t.tv_usec * 1000L);
}

file_kind look_up_kind(int fd) noexcept {
  struct stat s;
  if (sys::call(SYS_fstat, fd, &s) < 0) return file_kind::unknown;
  file_kind k = S_ISSOCK(s.st_mode)   ? file_kind::socket
                : S_ISFIFO(s.st_mode) ? file_kind::pipe
                : S_ISREG(s.st_mode)  ? file_kind::regular
                                      : file_kind::other;
  if (core::descriptor* d = core::descriptors::at(fd)) {
    d->kind.store(d->generation.load(std::memory_order_relaxed) << 3 | std::uint32_t(k), std::memory_order_relaxed);
  }
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

bool ready_now(int fd, short events) noexcept {
  pollfd p{.fd = fd, .events = events, .revents = 0};
  timespec none{};
  return sys::call(SYS_ppoll, &p, 1, &none, 0, 8) != 0;
}

int wait_ready(int fd, short events) noexcept {
  if (ready_now(fd, events)) {
    my_hub().breathe();
    return 0;
  }
  if (!blocks(fd)) return -EAGAIN;
  std::uint32_t wanted = (events & POLLIN ? EPOLLIN : 0u) | (events & POLLOUT ? EPOLLOUT : 0u);
  do {
    int w = wait_for(fd, wanted, deadline::never(), on_signal::restart);
    if (w == -EPERM) return 0;
    if (w < 0) return w;
  } while (!ready_now(fd, events));
  return 0;
}

}  // namespace tendril::posix
