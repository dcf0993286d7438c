// Waiting for signals, and knowing when a handler ran.
//
// Handlers are installed behind a small one of ours. It puts a handler off that would run inside the runtime, notes
// that one ran, which ends an interruptible wait with EINTR, and keeps the calls of a handler away from the scheduler.
// What sigaction(2) tells the program about its handlers is unchanged.
#include <tendril/posix.hpp>

#include <sys/signalfd.h>
#include <ucontext.h>

#include "cooperate.hpp"
#include "waiters.hpp"

namespace tendril::posix {

namespace {

using handler = void (*)(int, siginfo_t*, void*);

// What the program installed.
struct installed {
  std::atomic<handler> function{nullptr};
  std::atomic<int> flags{0};
  std::atomic<bool> wrapped{false};  // it is a handler; else what stands above is the last one, which may yet be called
};
constinit installed handlers[_NSIG];

// siginterrupt(3): a bit per signal for which signal() leaves SA_RESTART out.
constinit std::atomic<std::uint64_t> interrupting{0};

void note_and_call(int signal, siginfo_t* info, void* where);

// The instruction that was interrupted did it, and would do it again.
bool is_fault(int signal, const siginfo_t* info) noexcept {
  switch (signal) {
    case SIGSEGV: case SIGBUS: case SIGFPE: case SIGILL: case SIGTRAP: case SIGSYS:
      return info->si_code > 0;
    default:
      return false;
  }
}

// The handler has to wait until the fiber has left the runtime: the signal is blocked and sent once more, as it was,
// so that later it comes with the same information, mask and stack. False: that does not work here.
bool put_off(hub& h, int signal, siginfo_t* info, void* where) noexcept {
  std::uint64_t bit = 1ULL << (signal - 1), mask;
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, &bit, &mask, 8);  // for SA_NODEFER
  if (sys::call(SYS_rt_tgsigqueueinfo, h.pid, h.tid, signal, info) < 0) {
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
    return false;
  }
  if (handlers[signal].flags.load(std::memory_order_relaxed) & SA_RESETHAND) {
    struct sigaction a;
    if (real.sigaction(signal, nullptr, &a) == 0 && a.sa_handler == SIG_DFL) {
      a.sa_sigaction = note_and_call;
      real.sigaction(signal, &a, nullptr);
    }
  }
  sigaddset(&static_cast<ucontext_t*>(where)->uc_sigmask, signal);
  h.put_off(signal);
  return true;
}

void note_and_call(int signal, siginfo_t* info, void* where) {
  installed& h = handlers[signal];
  handler f = h.function.load(std::memory_order_acquire);
  fiber* self = core::current;
  if (!self || !in_hubs_process()) return f(signal, info, where);
  hub& mine = *hub::of(self);
  if (mine.inside && !is_fault(signal, info)) {
    int saved = errno;
    bool later = put_off(mine, signal, info, where);
    errno = saved;
    if (later) return;
  }
  bool restart = h.flags.load(std::memory_order_relaxed) & SA_RESTART;
  in_handler(mine);
  int depth = mine.handler_depth;
  volatile std::uint64_t mark = ++mine.handlers_begun * 0x9e3779b97f4a7c15;  // no value that is there by chance
  if (depth < hub::most_handlers) {
    mine.handlers[depth] = {const_cast<const std::uint64_t*>(&mark), mark};
    mine.handler_depth = depth + 1;
  }
  f(signal, info, where);
  mark = 0;
  mine.handler_depth = depth;
  mine.note_signal(restart);
}

bool is_handler(const struct sigaction& a) noexcept { return a.sa_handler != SIG_DFL && a.sa_handler != SIG_IGN; }

// What the program installed, given what the kernel has.
void as_installed(struct sigaction& a, handler function, int flags, bool wrapped) noexcept {
  if (a.sa_sigaction == note_and_call) a.sa_sigaction = function;
  else if (a.sa_handler != SIG_DFL || !wrapped) return;
  // Ours, or reset to SIG_DFL by SA_RESETHAND, which leaves the flags.
  if (!(flags & SA_SIGINFO)) a.sa_flags &= ~SA_SIGINFO;
}

}  // namespace

int sigaction(int signal, const struct sigaction* action, struct sigaction* old) {
  // Out of range, or in a vfork child, where the table is the parent's.
  hub* h = hub::registry.load(std::memory_order_relaxed);
  if (signal <= 0 || signal >= _NSIG || (h && h->pid != sys::getpid())) {
    int r = real.sigaction(signal, action, old);
    if (r == 0 && old && signal > 0 && signal < _NSIG) {
      as_installed(*old, handlers[signal].function.load(), handlers[signal].flags.load(), handlers[signal].wrapped.load());
    }
    return r;
  }
  installed& entry = handlers[signal];
  handler f_before = entry.function.load();
  int flags_before = entry.flags.load();
  bool wrapped_before = entry.wrapped.load();
  struct sigaction wanted, before;
  bool wraps = action && is_handler(*action);
  if (action) wanted = *action;
  if (wraps) {
    wanted.sa_sigaction = note_and_call;
    wanted.sa_flags |= SA_SIGINFO;
    // First the table: from the system call on the handler may run.
    entry.flags = action->sa_flags;
    entry.function = action->sa_sigaction;
  }
  int r = real.sigaction(signal, action ? &wanted : nullptr, &before);
  if (r < 0) {
    if (wraps) {
      entry.flags = flags_before;
      entry.function = f_before;
    }
    return r;
  }
  if (action) entry.wrapped = wraps;
  as_installed(before, f_before, flags_before, wrapped_before);
  if (old) *old = before;
  return r;
}

namespace {

// What signal(2) in its two traditions does.
sighandler_t install(int signal, sighandler_t handler, int flags, bool blocks_itself) noexcept {
  if (handler == SIG_ERR || signal <= 0 || signal >= _NSIG) {
    errno = EINVAL;
    return SIG_ERR;
  }
  struct sigaction a {}, old;
  a.sa_handler = handler;
  if (blocks_itself) sigaddset(&a.sa_mask, signal);
  a.sa_flags = flags;
  return posix::sigaction(signal, &a, &old) < 0 ? SIG_ERR : old.sa_handler;
}

}  // namespace

sighandler_t signal(int signal, sighandler_t handler) {
  bool interrupts = signal > 0 && signal < _NSIG && (interrupting.load() >> (signal - 1) & 1);
  return install(signal, handler, interrupts ? 0 : SA_RESTART, true);
}

sighandler_t sysv_signal(int signal, sighandler_t handler) {
  return install(signal, handler, int(SA_RESETHAND | SA_NODEFER) | 0x20000000 /* SA_INTERRUPT */, false);
}

int siginterrupt(int signal, int interrupts) {
  struct sigaction a;
  if (posix::sigaction(signal, nullptr, &a) < 0) return -1;
  std::uint64_t bit = 1ULL << (signal - 1);
  if (interrupts) {
    interrupting.fetch_or(bit);
    a.sa_flags &= ~SA_RESTART;
  } else {
    interrupting.fetch_and(~bit);
    a.sa_flags |= SA_RESTART;
  }
  return posix::sigaction(signal, &a, nullptr);
}

sighandler_t sigset(int signal, sighandler_t handler) {
  sigset_t set, before;
  sigemptyset(&set);
  if (sigaddset(&set, signal) < 0) return SIG_ERR;
  if (handler == SIG_HOLD) {
    if (sigprocmask(SIG_BLOCK, &set, &before) < 0) return SIG_ERR;
    struct sigaction is;
    if (sigismember(&before, signal)) return SIG_HOLD;
    return posix::sigaction(signal, nullptr, &is) < 0 ? SIG_ERR : is.sa_handler;
  }
  struct sigaction a {}, old;
  a.sa_handler = handler;
  if (posix::sigaction(signal, &a, &old) < 0 || sigprocmask(SIG_UNBLOCK, &set, &before) < 0) return SIG_ERR;
  return sigismember(&before, signal) ? SIG_HOLD : old.sa_handler;
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
  if (masked.error()) return result<int>(masked.error());
  core::wait_info what;
  what.kind = core::wait_kind::signal;
  what.remote = what.interruptible = what.for_signal = true;
  // A signal that was pending has been handled by now, and ends the wait at once.
  int r;
  do r = wait_parked(what, deadline::never(), on_signal::always);
  while (r == 0);
  return result<int>(r);
}

int sigtimedwait(const sigset_t* set, siginfo_t* info, const timespec* timeout) {
  timespec t, none{};
  if (!cooperative() || (timeout && !copy_in(t, timeout))) return real.sigtimedwait(set, info, timeout);
  if (timeout) timeout = &t;
  if (!valid(timeout)) return real.sigtimedwait(set, info, timeout);
  int before = errno;
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
  int saved = r < 0 ? errno : before;
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
