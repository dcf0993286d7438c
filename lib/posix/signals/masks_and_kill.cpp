// Signals of threads that are fibers: each has its own mask, pending signals and alternate stack. A
// signal for one thread waits in the runtime (lib/scheduler/signal_delivery.hpp). A signal for the
// process stays in the kernel until it is delivered.
#include <string.h>
#include <tendril/posix.hpp>

#include "fiber/signal_stack.hpp"
#include "posix/signals/send.hpp"
#include "posix/threads/preempt.hpp"

namespace tendril::posix {

namespace {

// The signals that the C library uses itself: for cancellation and setuid.
constexpr std::uint64_t internal = 1ULL << 31 | 1ULL << 32;
constexpr int most_signals = 64;
// The kernel's MINSIGSTKSZ; the C library's may be larger.
#ifdef __aarch64__
constexpr std::size_t least_alternate_stack = 5120;
#else
constexpr std::size_t least_alternate_stack = 2048;
#endif

// Whether the runtime keeps the masks: there is a hub, and this is its process.
bool ours() noexcept { return core::current && in_hubs_process(); }

int change_mask(int how, const sigset_t* set, sigset_t* old) noexcept {
  std::uint64_t wanted = 0, was;
  if (set) {
    memcpy(&wanted, set, sizeof wanted);
    wanted &= ~internal;
  }
  hub& h = my_hub();
  core::handlers_deferred quiet;
  // The kernel checks whether the program may write to `old`; if not, the mask has changed anyway.
  long r = sys::call(SYS_rt_sigprocmask, how, set ? &wanted : nullptr,
                     old ? static_cast<void*>(old) : &was, 8);
  if (r == -EFAULT && set) {
    std::uint64_t now;
    if (sys::call(SYS_rt_sigprocmask, SIG_BLOCK, 0, &now, 8) == 0)
      h.signals.mask_is(*core::current->storage, now);
  }
  if (r < 0) return int(r);
  if (old) memcpy(&was, old, sizeof was);
  if (set)
    h.signals.mask_is(*core::current->storage, how == SIG_BLOCK     ? was | wanted
                                               : how == SIG_UNBLOCK ? was & ~wanted
                                                                    : wanted);
  return 0;
}

// The kernel's disposition of the signal: a handler, SIG_DFL or SIG_IGN.
void (*disposition(int signal) noexcept)(int) {
  sys::signal_action now;
  sys::sigaction(signal, nullptr, &now);
  return reinterpret_cast<void (*)(int)>(reinterpret_cast<std::uintptr_t>(now.handler));
}

bool ignored_by_default(int signal) noexcept {
  return signal == SIGCHLD || signal == SIGURG || signal == SIGWINCH;
}

siginfo_t from_self(int signal, int code) noexcept {
  siginfo_t info;
  memset(&info, 0, sizeof info);
  info.si_signo = signal;
  info.si_code = code;
  info.si_pid = sys::getpid();
  info.si_uid = uid_t(sys::call(SYS_getuid));
  return info;
}

// Sends the signal to this kernel thread.
long to_kernel(hub& h, int signal, const siginfo_t& info) noexcept {
  if (info.si_code == SI_TKILL) return sys::call(SYS_tgkill, h.pid, h.tid, signal);
  return sys::call(SYS_rt_tgsigqueueinfo, h.pid, h.tid, signal, &info);
}

int send_to_self(hub& h, int signal, const siginfo_t& info) noexcept {
  std::uint64_t bit = core::signal_bit(signal);
  {
    core::handlers_deferred quiet;
    if (h.several_threads && (h.signals.own_mask() & bit))
      return h.signals.post(*core::current->storage, signal, info);
  }
  h.signals.sending_to_self = signal;
  long r = to_kernel(h, signal, info);
  h.signals.sending_to_self = 0;
  return int(r);
}

}  // namespace

int send_signal(thread& t, int signal, const siginfo_t& info) noexcept {
  if (t.life.load(std::memory_order_acquire) & thread::ended) return 0;
  hub& h = *hub::now_of(t.runs);
  core::thread_storage& target = *t.runs->storage;
  fiber* self = core::current;
  if (!self || self->home != &h) {
    bool by_thread = self && self->home->several_threads;
    bool whole_process = signal == SIGKILL || signal == SIGSTOP || signal == SIGCONT;
    if ((t.runs == h.signals.first && !by_thread) || whole_process)
      return int(to_kernel(h, signal, info));
    hub* now = core::crew.hold_hub_of(t.runs);
    if (!now) return 0;  // it has just ended
    bool kept = now->signals.defer_signal(signal, info, &target);
    core::crew.let_go(*now);
    return kept ? 0 : -EAGAIN;
  }
  if (self->storage == &target) return send_to_self(h, signal, info);
  if (signal == SIGKILL || signal == SIGSTOP || signal == SIGCONT)
    return int(to_kernel(h, signal, info));
  std::uint64_t bit = core::signal_bit(signal);
  if (!((target.signals.mask | target.signals.awaited) & bit)) {
    auto* does = disposition(signal);
    if (does == SIG_IGN || (does == SIG_DFL && ignored_by_default(signal))) return 0;
    if (does == SIG_DFL) {
      // The default action affects the whole process, whatever this thread blocks.
      core::handlers_deferred quiet;
      std::uint64_t mask = h.signals.own_mask(), without = mask & ~bit;
      sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &without, 0, 8);
      long r = to_kernel(h, signal, info);
      sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
      return int(r);
    }
  }
  int r;
  {
    core::handlers_deferred quiet;
    r = h.signals.post(target, signal, info);
  }
  // Let the target run its handler at once, as if it had its own processor: the sender may wait for
  // the handler's effect without yielding. But every so often only in its turn, since two threads
  // that keep sending would let no other thread run.
  if (target.signals.due && !handler_stays(self)) {
    if (++h.signals.handler_yields % 32) core::yield_to_handler(h, t.runs);
    else let_others_run();
  }
  return r;
}

int pthread_sigmask(int how, const sigset_t* set, sigset_t* old) {
  if (!ours()) return real.pthread_sigmask(how, set, old);
  return -change_mask(how, set, old);
}

int sigprocmask(int how, const sigset_t* set, sigset_t* old) {
  if (!ours()) return real.sigprocmask(how, set, old);
  return result<int>(change_mask(how, set, old));
}

int sigpending(sigset_t* set) {
  int r = real.sigpending(set);
  if (r < 0 || !ours()) return r;
  core::signal_state& s = core::current->storage->signals;
  std::uint64_t pending;
  memcpy(&pending, set, sizeof pending);
  pending |= s.pending;
  memcpy(set, &pending, sizeof pending);
  return 0;
}

int raise(int signal) {
  if (!ours() || signal <= 0 || signal > most_signals) return real.raise(signal);
  return result<int>(send_to_self(my_hub(), signal, from_self(signal, SI_TKILL)));
}

int pthread_kill(pthread_t id, int signal) {
  thread* t = thread_of(id);
  if (!t) return real.pthread_kill(id, signal);
  if (signal < 0 || signal > most_signals || (signal && (internal & core::signal_bit(signal))))
    return EINVAL;
  if (signal == 0) return 0;
  return -send_signal(*t, signal, from_self(signal, SI_TKILL));
}

int pthread_sigqueue(pthread_t id, int signal, sigval value) {
  thread* t = thread_of(id);
  if (!t) return real.pthread_sigqueue(id, signal, value);
  if (signal < 0 || signal > most_signals || (signal && (internal & core::signal_bit(signal))))
    return EINVAL;
  if (signal == 0) return 0;
  siginfo_t info = from_self(signal, SI_QUEUE);
  info.si_value = value;
  return -send_signal(*t, signal, info);
}

int kill(pid_t process, int signal) {
  int saved = errno, r = real.kill(process, signal);
  if (r == 0 || errno != ESRCH || process <= 0 || !ours() || !thread_of(process)) return r;
  errno = saved;
  return real.kill(my_hub().pid, signal);
}

int tgkill(pid_t process, pid_t id, int signal) {
  thread* t = ours() && process == my_hub().pid ? thread_of(id) : nullptr;
  if (!t || signal < 0 || signal > most_signals) return real.tgkill(process, id, signal);
  if (signal == 0) return 0;
  return result<int>(send_signal(*t, signal, from_self(signal, SI_TKILL)));
}

namespace {

// As the kernel's sigaltstack(2), for the running thread, whose stack ends at `here`.
int set_alternate(core::signal_state& s, const stack_t* stack, stack_t* old,
                  const void* here) noexcept {
  constexpr int autodisarm = int(1U << 31);  // SS_AUTODISARM
  bool on_it = core::stands_on(s.stack, here) && !(s.stack.ss_flags & autodisarm);
  stack_t wanted{};
  if (stack && !copy_in(wanted, stack)) return -EFAULT;
  stack_t before = s.stack;
  before.ss_flags = (before.ss_flags & autodisarm) | (!before.ss_size ? SS_DISABLE
                                                      : on_it         ? SS_ONSTACK
                                                                      : 0);
  if (stack) {
    if (on_it) return -EPERM;
    int mode = wanted.ss_flags & ~autodisarm;
    if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0) return -EINVAL;
    if (mode == SS_DISABLE) wanted.ss_sp = nullptr, wanted.ss_size = 0;
    else if (wanted.ss_size < least_alternate_stack) return -ENOMEM;
    s.stack = wanted;
  }
  return old && !copy_out(old, before) ? -EFAULT : 0;
}

}  // namespace

int sigaltstack(const stack_t* stack, stack_t* old) {
  if (!ours()) return real.sigaltstack(stack, old);
  hub& h = my_hub();
  core::handlers_deferred quiet;
  if (h.several_threads) {
    return result<int>(
        set_alternate(core::current->storage->signals, stack, old, __builtin_frame_address(0)));
  }
  stack_t usual = core::usual_signal_stack(h);
  stack_t before{};
  int r = real.sigaltstack(stack, &before);
  if (r < 0) return r;
  bool written = true;
  if (old) {
    if (usual.ss_sp && before.ss_sp == usual.ss_sp)
      before = {.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
    written = copy_out(old, before);
  }
  if (stack && (stack->ss_flags & SS_DISABLE) && usual.ss_sp) sys::call(SYS_sigaltstack, &usual, 0);
  return written ? 0 : result<int>(-EFAULT);
}

// --- older interfaces ---

int sighold(int signal) {
  sigset_t set;
  sigemptyset(&set);
  return sigaddset(&set, signal) < 0 ? -1 : posix::sigprocmask(SIG_BLOCK, &set, nullptr);
}

int sigrelse(int signal) {
  sigset_t set;
  sigemptyset(&set);
  return sigaddset(&set, signal) < 0 ? -1 : posix::sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

namespace {

int with_first_signals(int how, int mask) noexcept {
  sigset_t set, old;
  sigemptyset(&set);
  sigemptyset(&old);
  memcpy(&set, &mask, sizeof mask);
  int before;
  if (posix::sigprocmask(how, &set, &old) < 0) return -1;
  memcpy(&before, &old, sizeof before);
  return before;
}

}  // namespace

int sigpause(int mask) {
  sigset_t set;
  sigemptyset(&set);
  memcpy(&set, &mask, sizeof mask);
  return posix::sigsuspend(&set);
}

int __xpg_sigpause(int signal) {
  sigset_t set;
  if (posix::sigprocmask(SIG_BLOCK, nullptr, &set) < 0 || sigdelset(&set, signal) < 0) return -1;
  return posix::sigsuspend(&set);
}

int sigblock(int mask) { return with_first_signals(SIG_BLOCK, mask); }
int sigsetmask(int mask) { return with_first_signals(SIG_SETMASK, mask); }
int siggetmask() { return with_first_signals(SIG_BLOCK, 0); }

}  // namespace tendril::posix
