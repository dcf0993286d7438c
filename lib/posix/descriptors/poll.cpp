// poll(2), select(2): make the real call with a time-out of zero; if nothing is ready, park on all
// the descriptors and repeat.
#include <tendril/posix.hpp>

#include "posix/common/offload.hpp"
#include "posix/descriptors/select_sets.hpp"
#include "posix/descriptors/wait.hpp"
#include "posix/descriptors/wait_set.hpp"
#include "posix/signals/scoped_mask.hpp"
#include "posix/signals/signalfd_loan.hpp"

namespace tendril::posix {

namespace {

constexpr std::uint32_t always_reported = EPOLLERR | EPOLLHUP;

long poll_now(pollfd* fds, nfds_t n, const sigset_t* mask) noexcept {
  signalfd_loan loan(mask);
  return sys::poll_now(fds, n, mask);
}

deadline after_milliseconds(int ms) noexcept {
  return ms < 0 ? deadline::never() : deadline::after(core::now(), ms * 1'000'000L);
}

// Whether poll(2) is known to find nothing: all descriptors are drained connections, and only input
// is requested.
bool would_block(const pollfd* fds, nfds_t n) noexcept {
  if (!on_own_stack(fds, n * sizeof *fds)) return false;  // the kernel must report a bad address
  for (nfds_t i = 0; i < n; i++) {
    if (fds[i].fd < 0) continue;
    if ((fds[i].events & ~(POLLIN | POLLRDNORM | POLLPRI | POLLRDHUP)) || !emptied(fds[i].fd))
      return false;
  }
  return true;
}

// The result that poll(2) would have given for the events that ended the wait, if it is known for
// all descriptors: each had plain input or output events, or is known to have none. 0: not known.
long answer_of_edges(pollfd* fds, nfds_t n, const wait_set& set) noexcept {
  constexpr std::uint32_t plain = EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM;
  std::size_t at = 0;
  for (nfds_t i = 0; i < n; i++) {
    if (fds[i].fd < 0) continue;
    std::uint32_t reported = set.reported(at++);
    if (reported ? (reported & ~plain) != 0 : !emptied(fds[i].fd)) return 0;
  }
  long ready = 0;
  at = 0;
  for (nfds_t i = 0; i < n; i++) {
    fds[i].revents =
        fds[i].fd < 0 ? short(0) : short(set.reported(at++) & std::uint16_t(fds[i].events));
    ready += fds[i].revents != 0;
  }
  return ready;
}

long poll_until(pollfd* fds, nfds_t n, deadline until, const sigset_t* mask) noexcept {
  bool asked = mask || !would_block(fds, n);
  long r = asked ? poll_now(fds, n, mask) : 0;
  if (r != 0) {
    my_hub().charge_budget();
    return r;
  }
  mask_while_waiting masked(mask);
  std::size_t bad = 0;
  for (;;) {
    int w;
    {
      wait_set set(n);
      if (!set.ok()) return -ENOMEM;
      for (nfds_t i = 0; i < n; i++) {
        if (fds[i].fd >= 0)
          set.add(fds[i].fd, std::uint32_t(std::uint16_t(fds[i].events)) | always_reported);
      }
      w = set.wait(until, bad);
      if (w == 0 && !asked) {
        if (long known = answer_of_edges(fds, n, set); known > 0) return known;
      }
    }
    if (w == -ENOMEM) {
      // Epoll instances nested too deeply, or no memory to watch one more: a helper waits in the
      // kernel.
      return offload_interruptible(
          [&] {
            timespec t = time_left(until);
            return sys::call(SYS_ppoll, fds, n, until.is_never() ? nullptr : &t, 0, 8);
          },
          on_signal::always);
    }
    bool over = w == -EINTR || w == -ECANCELED;
    if (over && asked) return w;
    r = poll_now(fds, n, nullptr);
    if (r != 0 || w == -ETIMEDOUT) return r;
    if (over) return w;
    asked = true;
  }
}

long select_until(int n, fd_set* r, fd_set* w, fd_set* x, deadline until, const sigset_t* mask,
                  core::nanoseconds* ended = nullptr) noexcept {
  select_sets sets(n, r, w, x);
  if (!sets.ok()) return -ENOMEM;
  if (sets.bad()) return -EFAULT;
  long got = sets.now(mask);
  if (got != 0) {
    my_hub().charge_budget();
    return got;
  }
  mask_while_waiting masked(mask);
  std::size_t bad = 0;
  for (;;) {
    int why;
    {
      wait_set set(std::size_t(sets.count()));
      if (!set.ok()) return sets.fail(-ENOMEM);
      sets.each([&](int fd, std::uint32_t events) { set.add(fd, events); });
      why = set.wait(until, bad, ended);
    }
    if (why == -EINTR || why == -ECANCELED || why == -ENOMEM) return sets.fail(why);
    got = sets.now(nullptr);
    if (got != 0 || why == -ETIMEDOUT) return got;
  }
}

}  // namespace

int poll(pollfd* fds, nfds_t n, int timeout) {
  if ((timeout == 0 && !signals_to_lend()) || !cooperative()) return real.poll(fds, n, timeout);
  return result<int>(poll_until(fds, n, after_milliseconds(timeout), nullptr));
}

int ppoll(pollfd* fds, nfds_t n, const timespec* timeout, const sigset_t* mask) {
  if (!cooperative() || !valid(timeout) ||
      (timeout && timeout->tv_sec == 0 && timeout->tv_nsec == 0 && !signals_to_lend())) {
    return real.ppoll(fds, n, timeout, mask);
  }
  return result<int>(poll_until(fds, n, time_from_now(timeout), mask));
}

int select(int n, fd_set* r, fd_set* w, fd_set* x, timeval* timeout) {
  if (core::current) n = select_sets::reach(n);
  if (!cooperative() || n < 0 || n > core::descriptors::limit ||
      (timeout && (timeout->tv_sec < 0 || timeout->tv_usec < 0 ||
                   (timeout->tv_sec == 0 && timeout->tv_usec == 0 && !signals_to_lend())))) {
    return real.select(n, r, w, x, timeout);
  }
  deadline until = deadline::never();
  if (timeout) {
    timespec t{.tv_sec = timeout->tv_sec + timeout->tv_usec / 1'000'000,
               .tv_nsec = timeout->tv_usec % 1'000'000 * 1000};
    until = time_from_now(&t);
  }
  core::nanoseconds ended = 0;
  long got = select_until(n, r, w, x, until, nullptr, &ended);
  if (timeout) {
    // Linux stores the remaining time there.
    timespec left = time_left(until, got == -EINTR && ended ? ended : core::now());
    *timeout = {.tv_sec = left.tv_sec, .tv_usec = left.tv_nsec / 1000};
  }
  return result<int>(got);
}

int pselect(int n, fd_set* r, fd_set* w, fd_set* x, const timespec* timeout, const sigset_t* mask) {
  if (core::current) n = select_sets::reach(n);
  if (!cooperative() || n < 0 || n > core::descriptors::limit || !valid(timeout) ||
      (timeout && timeout->tv_sec == 0 && timeout->tv_nsec == 0 && !signals_to_lend())) {
    return real.pselect(n, r, w, x, timeout, mask);
  }
  return result<int>(select_until(n, r, w, x, time_from_now(timeout), mask));
}

}  // namespace tendril::posix
