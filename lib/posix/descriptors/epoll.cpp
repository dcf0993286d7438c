// The program's own epoll instances. An instance is itself a descriptor that polls readable when it
// has events. The hub's poller watches it like any other descriptor, and then the real epoll_wait,
// with a time-out of zero, fetches the events. So level- and edge-triggering, EPOLLONESHOT and all
// other details are the kernel's.
#include <tendril/posix.hpp>

#include "posix/common/offload.hpp"
#include "posix/descriptors/wait.hpp"
#include "posix/descriptors/wait_set.hpp"
#include "posix/signals/scoped_mask.hpp"
#include "posix/signals/signalfd_loan.hpp"

namespace tendril::posix {

namespace {

// Whether a signal is pending that a signalfd in an instance may report to this thread alone, while
// other hubs may watch the instance: the kernel takes such a signalfd off the instance's list of
// ready files when another kernel thread looks, so one look may find nothing.
bool others_look() noexcept { return signals_to_lend() && core::crew.size() > 1; }

long fetch(int ep, epoll_event* e, int n, const sigset_t* mask) noexcept {
  for (int tries = others_look() ? 8 : 1;;) {
    signalfd_loan loan(mask);
    long r = sys::call(SYS_epoll_pwait, ep, e, n, 0, mask, 8);
    if (r != 0 || --tries == 0) return r;
  }
}

// Until when to wait for events: until the next look, if that one may find more.
deadline next_look(deadline until) noexcept {
  constexpr core::nanoseconds pause = 5'000'000;
  if (!others_look()) [[likely]]
    return until;
  core::nanoseconds at = core::now() + pause;
  return at < until.at ? deadline{at} : until;
}

long epoll_until(int ep, epoll_event* e, int n, deadline until, const sigset_t* mask) noexcept {
  long r = fetch(ep, e, n, mask);
  if (r != 0) {
    my_hub().charge_budget();
    return r;
  }
  mask_while_waiting masked(mask);
  for (;;) {
    deadline next = next_look(until);
    int w = wait_for(ep, EPOLLIN, next, on_signal::always);
    if (w == -ETIMEDOUT && next.at != until.at) w = 0;
    if (w == -ELOOP || w == -EINVAL || w == -ENOMEM || w == -ENOSPC) {
      // The instances are nested too deeply to be watched by one more.
      return offload_interruptible(
          [&] {
            timespec left = time_left(until);  // not negative, which would mean no time-out
            return sys::epoll_wait(ep, e, n, until.is_never() ? nullptr : &left);
          },
          on_signal::always);
    }
    if (w < 0 && w != -ETIMEDOUT) return w;
    r = fetch(ep, e, n, nullptr);
    if (r != 0 || w == -ETIMEDOUT) return r;
  }
}

}  // namespace

int epoll_wait(int ep, epoll_event* e, int n, int timeout) {
  if ((timeout == 0 && !signals_to_lend()) || !cooperative())
    return real.epoll_wait(ep, e, n, timeout);
  return posix::epoll_pwait(ep, e, n, timeout, nullptr);
}

int epoll_pwait(int ep, epoll_event* e, int n, int timeout, const sigset_t* mask) {
  if ((timeout == 0 && !signals_to_lend()) || !cooperative())
    return real.epoll_pwait(ep, e, n, timeout, mask);
  deadline until =
      timeout < 0 ? deadline::never() : deadline::after(core::now(), timeout * 1'000'000L);
  return result<int>(epoll_until(ep, e, n, until, mask));
}

int epoll_pwait2(int ep, epoll_event* e, int n, const timespec* timeout, const sigset_t* mask) {
  if (!cooperative() || (timeout && !sys::readable(timeout, sizeof *timeout)) || !valid(timeout) ||
      (timeout && timeout->tv_sec == 0 && timeout->tv_nsec == 0 && !signals_to_lend())) {
    return real.epoll_pwait2(ep, e, n, timeout, mask);
  }
  return result<int>(epoll_until(ep, e, n, time_from_now(timeout), mask));
}

}  // namespace tendril::posix
