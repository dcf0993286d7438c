#include "posix/descriptors/wait.hpp"

#include <poll.h>

#include "posix/signals/signalfd_loan.hpp"

namespace tendril::posix {

int wait_for(int fd, std::uint32_t events, deadline until, on_signal rule,
             std::uint32_t* reported) noexcept {
  if (!in_hubs_process()) return wait_in_kernel(fd, events, until);
  core::io_waiter w;
  w.who = core::current;
  w.fd = fd;
  w.events = events;
  core::wait_info what;
  what.kind = core::wait_kind::descriptor;
  what.fd = fd;
  what.interruptible = true;
  w.alone = true;
  int saved = errno;
  core::wake why;
  {
    core::handlers_deferred quiet;
    int r = my_hub().io.add(w);
    if (r < 0) return r;
    why = park_unless_interrupted(what, until, rule);
    core::current->movable = false;
    my_hub().io.remove(w);  // a thread that has moved is not on the list any more
  }
  if (reported) *reported = w.reported;
  errno = saved;
  int r = outcome(why, what, rule);
  // After a handler the call starts again, and the number may stand for another file by then.
  if (r == 0 && why == core::wake::signal && !core::descriptors::sees_all(fd) &&
      !my_hub().io.still_stands(w))
    return -EBADF;
  return r;
}

bool waits_without_end(int fd) noexcept {
  core::descriptor* d = core::descriptors::sees_all(fd) ? core::descriptors::at(fd) : nullptr;
  return d &&
         d->receives_blocking.load(std::memory_order_relaxed) == core::descriptors::mode_stamp(*d);
}

int socket_option(int fd, int name) noexcept {
  int value = 0;
  socklen_t n = sizeof value;
  return sys::call_if_allowed(SYS_getsockopt, fd, SOL_SOCKET, name, &value, &n) < 0 ? -1 : value;
}

deadline socket_deadline(int fd, int option) noexcept {
  timeval t{};
  socklen_t n = sizeof t;
  if (sys::call_if_allowed(SYS_getsockopt, fd, SOL_SOCKET, option, &t, &n) < 0 ||
      (t.tv_sec == 0 && t.tv_usec == 0)) {
    return deadline::never();
  }
  return deadline::after(core::now(), t.tv_sec * 1'000'000'000L + t.tv_usec * 1000L);
}

bool waits_until(int fd, int timeout_option, deadline& until) noexcept {
  core::descriptor* d = core::descriptors::sees_all(fd) ? core::descriptors::at(fd) : nullptr;
  std::atomic<std::uint64_t>* known = !d                              ? nullptr
                                      : timeout_option == SO_SNDTIMEO ? &d->sends_blocking
                                                                      : &d->receives_blocking;
  std::uint64_t stamp = d ? core::descriptors::mode_stamp(*d) : 0;
  if (known && known->load(std::memory_order_relaxed) == stamp) return true;
  if (!blocks(fd)) return false;
  if (timeout_option) until = socket_deadline(fd, timeout_option);
  if (known && timeout_option && until.is_never() && core::descriptors::is_private(fd)) {
    known->store(stamp, std::memory_order_relaxed);
  }
  return true;
}

int wait_if_emptied(int fd) noexcept {
  if (!my_hub().io.drained(fd) || !waits_without_end(fd)) return 0;
  return wait_for(fd, EPOLLIN, deadline::never(), on_signal::restart);
}

namespace {

short poll_once(int fd, short events) noexcept {
  pollfd p{.fd = fd, .events = events, .revents = 0};
  long r;
  do {
    signalfd_loan loan;
    r = sys::poll_now(&p, 1);
  } while (r == -EINTR);  // possible even without waiting, if a signal has just come
  return r < 0 ? short(POLLERR) : p.revents;
}

}  // namespace

bool ready_now(int fd, short events) noexcept { return poll_once(fd, events) != 0; }
bool hung_up(int fd) noexcept { return poll_once(fd, 0) & POLLHUP; }

int wait_ready(int fd, short events) noexcept {
  if (ready_now(fd, events)) {
    my_hub().charge_budget();
    return 0;
  }
  if (!blocks(fd)) return -EAGAIN;
  std::uint32_t wanted = (events & POLLIN ? EPOLLIN : 0u) | (events & POLLOUT ? EPOLLOUT : 0u);
  deadline until = socket_deadline(fd, events & POLLOUT ? SO_SNDTIMEO : SO_RCVTIMEO);
  on_signal rule = until.is_never() ? on_signal::restart : on_signal::always;
  do {
    int w = wait_for(fd, wanted, until, rule);
    if (w == -EPERM) return 0;
    if (w < 0) return w == -ETIMEDOUT ? -EAGAIN : w;
  } while (!ready_now(fd, events));
  return 0;
}

}  // namespace tendril::posix
