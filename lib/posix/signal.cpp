// Waiting for signals, and knowing when a handler ran.
//
// Handlers are installed behind a small one of ours, which notes that it ran: that is what ends an interruptible
// wait with EINTR, and what keeps the calls of a handler away from the scheduler it may have interrupted. What
// sigaction(2) tells the program about its handlers is unchanged.
#include <tendril/posix.hpp>

#include <sys/signalfd.h>

#include "cooperate.hpp"
#include "waiters.hpp"

namespace tendril::posix {

namespace {

using handler = void (*)(int, siginfo_t*, void*);

struct installed {
  std::atomic<handler> function{nullptr};
  std::atomic<int> flags{0};
};
constinit installed handlers[_NSIG];

void note_and_call(int signal, siginfo_t* info, void* where) {
  installed& h = handlers[signal];
  handler f = h.function.load(std::memory_order_acquire);
  fiber* self = core::current;
  if (!self) return f(signal, info, where);
  hub& mine = *hub::of(self);
  const void* outer = mine.handler_frame;
  mine.handler_frame = __builtin_frame_address(0);
  f(signal, info, where);
  mine.handler_frame = outer;
  mine.note_signal(h.flags.load(std::memory_order_relaxed) & SA_RESTART);
}

bool is_handler(const struct sigaction& a) noexcept { return a.sa_handler != SIG_DFL && a.sa_handler != SIG_IGN; }

// What the program installed, given what the kernel has.
void as_installed(int signal, struct sigaction& a) noexcept {
  if (a.sa_sigaction != note_and_call) return;
  a.sa_sigaction = handlers[signal].function.load(std::memory_order_relaxed);
  if (!(handlers[signal].flags.load(std::memory_order_relaxed) & SA_SIGINFO)) a.sa_flags &= ~SA_SIGINFO;
}

}  // namespace

int sigaction(int signal, const struct sigaction* action, struct sigaction* old) {
  hub* h = hub::registry.load(std::memory_order_relaxed);
  // In a vfork child the table is the parent's.
  bool ours = signal > 0 && signal < _NSIG && !(h && h->pid != sys::getpid());
  if (!ours || !action || !is_handler(*action)) {
    int r = real.sigaction(signal, action, old);
    if (r == 0 && old && signal > 0 && signal < _NSIG) as_installed(signal, *old);
    return r;
  }
  struct sigaction wrapped = *action, before;
  handler f = action->sa_sigaction, f_before = handlers[signal].function.load();
  int flags_before = handlers[signal].flags.load();
  wrapped.sa_sigaction = note_and_call;
  wrapped.sa_flags |= SA_SIGINFO;
  // First the table: from the system call on the handler may run.
  handlers[signal].flags = action->sa_flags;
  handlers[signal].function = f;
  int r = real.sigaction(signal, &wrapped, &before);
  if (r < 0) {
    handlers[signal].flags = flags_before;
    handlers[signal].function = f_before;
    return r;
  }
  if (old) {
    if (before.sa_sigaction == note_and_call) {
      before.sa_sigaction = f_before;
      if (!(flags_before & SA_SIGINFO)) before.sa_flags &= ~SA_SIGINFO;
    }
    *old = before;
  }
  return r;
}

sighandler_t signal(int signal, sighandler_t handler) {
  struct sigaction a {}, old;
  if (handler == SIG_ERR || signal <= 0 || signal >= _NSIG) {
    errno = EINVAL;
    return SIG_ERR;
  }
  a.sa_handler = handler;
  sigaddset(&a.sa_mask, signal);
  a.sa_flags = SA_RESTART;
  return posix::sigaction(signal, &a, &old) < 0 ? SIG_ERR : old.sa_handler;
}

int pause() {
  if (!cooperative()) return real.pause();
  core::wait_info what;
  what.kind = core::wait_kind::signal;
  what.remote = what.interruptible = what.for_signal = true;
  int r;
  do r = wait_parked(what, deadline::never(), on_signal::always);
  while (r == 0);
  return result<int>(r);
}

int sigsuspend(const sigset_t* mask) {
  if (!cooperative()) return real.sigsuspend(mask);
  mask_while_waiting masked(mask);
  // A signal that was pending has been handled by now, on the way out of the system call.
  core::wait_info what;
  what.kind = core::wait_kind::signal;
  what.remote = what.interruptible = what.for_signal = true;
  int r = 0;
  if (!masked.handled()) {
    do r = wait_parked(what, deadline::never(), on_signal::always);
    while (r == 0);
  } else {
    r = -EINTR;
  }
  return result<int>(r);
}

int sigtimedwait(const sigset_t* set, siginfo_t* info, const timespec* timeout) {
  if (!cooperative() || !valid(timeout)) return real.sigtimedwait(set, info, timeout);
  timespec none{};
  int r = real.sigtimedwait(set, info, &none);
  if (r >= 0 || errno != EAGAIN || (timeout && timeout->tv_sec == 0 && timeout->tv_nsec == 0)) return r;
  deadline until = time_from_now(timeout);
  long fd = sys::call(SYS_signalfd4, -1, set, 8, SFD_CLOEXEC | SFD_NONBLOCK);
  if (fd < 0) return result<int>(fd);
  for (;;) {
    int w = wait_for(int(fd), EPOLLIN, until, on_signal::always);
    if (w < 0 && w != -ETIMEDOUT) {
      r = result<int>(w);
      break;
    }
    r = real.sigtimedwait(set, info, &none);
    if (r >= 0 || errno != EAGAIN || w == -ETIMEDOUT) break;
  }
  int saved = errno;
  core::forget_descriptor(int(fd));
  sys::close(int(fd));
  errno = saved;
  return r;
}

int sigwaitinfo(const sigset_t* set, siginfo_t* info) {
  if (!cooperative()) return real.sigwaitinfo(set, info);
  return posix::sigtimedwait(set, info, nullptr);
}

int sigwait(const sigset_t* set, int* signal) {
  if (!cooperative()) return real.sigwait(set, signal);
  int r;
  do r = posix::sigtimedwait(set, nullptr, nullptr);
  while (r < 0 && errno == EINTR);
  if (r < 0) return errno;
  *signal = r;
  return 0;
}

}  // namespace tendril::posix
