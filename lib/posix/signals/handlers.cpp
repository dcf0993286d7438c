// Installs handlers, records when they run, and waits for signals.
//
// For each handler of the program's, the kernel has a small handler of ours. It defers handlers
// that would run inside the runtime, and records that a handler ran, which ends an interruptible
// wait with EINTR. sigaction(2) reports the program's own handlers.
#include <tendril/posix.hpp>

#include <string.h>
#include <ucontext.h>

#include <algorithm>

#include "base/runtime_signal.hpp"
#include "fiber/signal_stack.hpp"
#include "posix/common/cooperate.hpp"
#include "posix/signals/scoped_mask.hpp"
#include "posix/threads/interruption.hpp"
#include "scheduler/hub_registry.hpp"
#include "scheduler/stack_overflow.hpp"

namespace tendril::posix {

namespace {

using handler = void (*)(int, siginfo_t*, void*);

// The program's handler for a signal.
struct installed {
  std::atomic<handler> function{nullptr};
  std::atomic<int> flags{0};
  std::atomic<std::uint64_t> mask{0};
  // true: the program's handler is installed; otherwise these are the last handler's values: it may
  // still be called
  std::atomic<bool> wrapped{false};
};
constinit installed handlers[_NSIG];

// siginterrupt(3): a bit for each signal for which signal() does not set SA_RESTART.
constinit std::atomic<std::uint64_t> interrupting{0};

// The kernel calls note_and_call, or note_and_call_there if it had to be moved to another stack;
// both call handle.
void note_and_call(int signal, siginfo_t* info, void* where);
void note_and_call_there(int signal, siginfo_t* info, void* where);
void handle(int signal, siginfo_t* info, void* where) noexcept;

bool only_faults(int signal) noexcept {
  return signal == SIGSEGV || signal == SIGBUS || signal == SIGILL || signal == SIGFPE;
}

// Whether the interrupted instruction caused the signal, and would cause it again.
bool is_fault(int signal, const siginfo_t* info) noexcept {
  switch (signal) {
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
    case SIGSYS:
      return info->si_code > 0;
    default:
      return false;
  }
}

// Whether the running fiber, or its CPU clock, has caused the signal, so that it is for the running
// thread.
bool is_for_running(hub& h, int signal, const siginfo_t* info) noexcept {
  switch (signal) {
    case SIGPIPE:
    case SIGXFSZ:
      return info->si_pid == h.pid;
    case SIGPROF:
    case SIGVTALRM:
    case SIGABRT:
      return true;
    default:
      if (h.signals.sending_to_self != signal || info->si_pid != h.pid) return false;
      h.signals.sending_to_self = 0;
      return true;
  }
}

// The thread that the signal is for, if that is fixed; null: any thread that does not block it.
core::thread_storage* addressee(hub& h, core::thread_storage* running, int signal,
                                const siginfo_t* info) noexcept {
  if (!h.several_threads) return nullptr;
  if (is_for_running(h, signal, info)) return running;
  // Another process can only address a kernel thread: its signal is for the main thread.
  core::thread_storage* main = h.signals.first->storage;
  bool from_outside = info->si_code == SI_TKILL && info->si_pid != h.pid;
  return from_outside && !main->signals.gone ? main : nullptr;
}

// The thread that must run the handler of a signal that has come; null: the running one, here.
// `running` still has the mask from before the signal.
core::thread_storage* elsewhere(hub& h, core::thread_storage* running, int signal,
                                const siginfo_t* info) noexcept {
  if (!h.several_threads) return nullptr;
  if (core::thread_storage* whose = addressee(h, running, signal, info))
    return whose != running ? whose : nullptr;
  core::thread_storage* main = h.signals.first->storage;
  core::signal_state& s = main->signals;
  if (main == running || s.gone || (s.mask & core::signal_bit(signal)) ||
      (h.signals.has_main() && !h.signals.runs_its_own(*main)))
    return nullptr;
  return main;
}

// Defers the handler, because its thread is inside the runtime, or because another thread must run
// it. If it was a one-time handler, the kernel has reset it by now, so installs it again.
bool defer_signal(hub& h, int signal, const siginfo_t* info,
                  core::thread_storage* target) noexcept {
  if (!h.signals.defer_signal(signal, *info, target)) return false;
  if (handlers[signal].flags.load(std::memory_order_relaxed) & SA_RESETHAND) {
    struct sigaction a;
    if (real.sigaction(signal, nullptr, &a) == 0 && a.sa_handler == SIG_DFL) {
      a.sa_sigaction = note_and_call;
      real.sigaction(signal, &a, nullptr);
    }
  }
  return true;
}

// Runs the program's handler for thread t, on the running stack.
void run(hub& h, core::thread_storage& t, handler f, bool restart, int signal, siginfo_t* info,
         void* where) noexcept {
  core::signal_state& s = t.signals;
  in_handler(s);
  int depth = s.depth;
  // A value that the stack does not contain by chance.
  volatile std::uint64_t mark = ++h.signals.handlers_begun * 0x9e3779b97f4a7c15;
  if (depth < core::signal_state::most_handlers) {
    s.handlers[depth] = {const_cast<const std::uint64_t*>(&mark), mark};
    s.depth = depth + 1;
  }
  s.unsure = true;
  // Unblock the tick: a handler that blocks all signals may still be preempted.
  std::uint64_t tick =
      core::runtime_signal::bit & handlers[signal].mask.load(std::memory_order_relaxed);
  if (tick && h.several_threads) sys::call(SYS_rt_sigprocmask, SIG_UNBLOCK, &tick, 0, 8);
  // Save what the interrupted call knows of handlers: the handler's own calls overwrite it.
  fiber* self = core::current;
  std::uint32_t before = self->signals_before, norestart_before = self->norestart_before;
  f(signal, info, where);
  self->signals_before = before;
  self->norestart_before = norestart_before;
  mark = 0;
  s.depth = depth;
  s.unsure = depth > 0;
  // A fault interrupts no wait: the running instruction caused it, perhaps a system call of the
  // runtime's that a filter traps.
  if (!is_fault(signal, info)) h.signals.note_handled(t, restart);
}

// The kernel has begun a handler on one of our stacks, which it believes to be the alternate stack.
// Begins it again on the stack that the program wants, as the kernel would. Returns if there is no
// room.
void begin_where_wanted(hub& h, int signal, siginfo_t* info, ucontext_t* where) noexcept {
  core::thread_storage& running = *core::current->storage;
  bool sent = h.signals.delivery.signal == signal && !is_fault(signal, info);
  core::signal_state& s = sent ? h.signals.delivery.target->signals : running.signals;
  char* sp = arch::interrupted_stack(*where);
  bool mine = &s == &running.signals;
  bool autodisarm = s.stack.ss_flags & int(1U << 31);
  // Another thread's alternate stack is free unless that thread is in a handler on it.
  bool enters =
      s.stack.ss_size && (autodisarm || !core::stands_on(s.stack, mine ? sp : s.owner->sp));
  if (!enters)
    return arch::begin_handler_on(sp - arch::red_zone, nullptr, signal, info, where,
                                  note_and_call_there);
  char* bottom = static_cast<char*>(s.stack.ss_sp);
  arch::begin_handler_on(bottom + s.stack.ss_size, bottom, signal, info, where,
                         note_and_call_there);
}

// While this lives, a handler's context shows the alternate stack that the program has set;
// afterwards, the one that the kernel must set on return.
class shown_stack {
 public:
  shown_stack(hub& h, core::signal_state& s, ucontext_t& c) noexcept
      : hub_(h), state_(s), context_(c) {
    if (!h.several_threads) return;
    shown_ = true;
    kernels_ = c.uc_stack;
    c.uc_stack = s.stack;
    if (core::stands_on(s.stack, &c)) {
      s.entered = s.stack;
      if (s.stack.ss_flags & int(1U << 31)) s.stack = {nullptr, SS_DISABLE, 0};  // SS_AUTODISARM
    }
  }
  ~shown_stack() {
    if (!shown_) return;
    // As the kernel does: set the context's stack unless the current one is in use.
    if (!core::stands_on(state_.stack, &context_)) state_.stack = context_.uc_stack;
    bool ours = hub_.signals.own_stacks.holds(&context_);
    context_.uc_stack = ours ? kernels_ : hub_.signals.own_stacks.kernels();
  }
  shown_stack(const shown_stack&) = delete;

 private:
  hub& hub_;
  core::signal_state& state_;
  ucontext_t& context_;
  stack_t kernels_;
  bool shown_ = false;
};

void note_and_call(int signal, siginfo_t* info, void* where) {
  fiber* self = core::current;
  hub* h = self ? hub::of(self) : nullptr;
  if (!h || !h->several_threads || !h->signals.own_stacks.holds(where) || !in_hubs_process())
    return handle(signal, info, where);
  auto* context = static_cast<ucontext_t*>(where);
  // It interrupted another handler's first steps on that stack.
  bool amid = h->signals.own_stacks.holds(arch::interrupted_stack(*context));
  if (amid && !is_fault(signal, info) &&
      defer_signal(*h, signal, info, addressee(*h, self->storage, signal, info)))
    return;
  bool waits =
      self->runtime_depth && h->signals.delivery.signal != signal && !is_fault(signal, info);
  if (!waits && !amid) begin_where_wanted(*h, signal, info, context);
  // It is deferred, or must run here.
  if (waits || amid) return handle(signal, info, where);
  bool failed = false;
  core::own_stack* kept = h->signals.own_stacks.keep(where, failed);
  handle(signal, info, where);
  if (!kept) return;
  std::uint64_t all = ~0ULL;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &all, 0, 8);
  h->signals.own_stacks.keep_no_longer(kept, context->uc_stack);
}

// Runs on the stack that the program wants.
void note_and_call_there(int signal, siginfo_t* info, void* where) { handle(signal, info, where); }

void handle(int signal, siginfo_t* info, void* where) noexcept {
  installed& entry = handlers[signal];
  handler f = entry.function.load(std::memory_order_acquire);
  int flags = entry.flags.load(std::memory_order_relaxed);
  fiber* self = core::current;
  if (!self || !in_hubs_process()) return f(signal, info, where);
  if (signal == SIGSEGV && core::allows_code(*info, where)) [[unlikely]]
    return;
  hub& h = *hub::of(self);
  int saved = errno;
  sigset_t& mask_after = static_cast<ucontext_t*>(where)->uc_sigmask;
  core::thread_storage* t = self->storage;
  if (h.signals.delivery.signal == signal && !is_fault(signal, info)) {
    // Sent by run_handlers(), with all other signals blocked.
    t = h.signals.delivery.target;
    h.signals.delivery.signal = 0;
    *info = *h.signals.delivery.info;
    memcpy(&mask_after, &h.signals.delivery.mask, sizeof h.signals.delivery.mask);
    std::uint64_t during = h.signals.delivery.mask | entry.mask.load(std::memory_order_relaxed);
    if (!(flags & SA_NODEFER)) during |= core::signal_bit(signal);
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &during, 0, 8);
  } else if (!is_fault(signal, info)) {
    if (self->runtime_depth) {
      if (defer_signal(h, signal, info, addressee(h, t, signal, info))) return void(errno = saved);
    } else if (core::thread_storage* other = elsewhere(h, t, signal, info)) {
      bool later = defer_signal(h, signal, info, other);
      if (later) {
        // Run it at once, before the running thread continues, under the mask that the running
        // thread had.
        std::uint64_t mask = core::mask_of(mask_after);
        sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
        {
          shown_stack alternate(h, t->signals, *static_cast<ucontext_t*>(where));
          core::run_handlers_due();
          if (other->signals.due) core::yield_to_handler(h, other->signals.owner);
        }
        return void(errno = saved);
      }
    }
  }
  core::signal_state& s = t->signals;
  bool outside = self->runtime_depth == 0;
  // It interrupted another handler's entry or exit, where our cached mask is stale.
  bool between = !s.unsure && s.mask != core::mask_of(mask_after);
  if (outside && h.several_threads) {
    self->runtime_depth = 1;
    h.signals.mask_is(*t, core::mask_of(mask_after) | entry.mask.load(std::memory_order_relaxed) |
                              (flags & SA_NODEFER ? 0 : core::signal_bit(signal)));
    self->runtime_depth = 0;
  }
  shown_stack alternate(h, s, *static_cast<ucontext_t*>(where));
  run(h, *t, f, flags & SA_RESTART, signal, info, where);
  if (!outside || !h.several_threads) return;
  // Handle what else has come for the thread meanwhile.
  saved = errno;
  self->runtime_depth = 1;
  h.signals.mask_is(*t, core::mask_of(mask_after));
  if (between) s.unsure = true;
  self->runtime_depth = 0;
  if (s.due || h.handlers_due()) {
    std::uint64_t after = core::mask_of(mask_after);
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &after, 0, 8);
    if (t == self->storage) h.signals.run_handlers();
  }
  errno = saved;
}

bool is_handler(const struct sigaction& a) noexcept {
  return a.sa_handler != SIG_DFL && a.sa_handler != SIG_IGN;
}

// Converts what the kernel has installed to what the program has installed.
void as_installed(struct sigaction& a, handler function, int flags, bool wrapped) noexcept {
  if (core::is_overflow_handler(a.sa_sigaction)) a = {};  // SIG_DFL
  if (a.sa_sigaction == note_and_call) a.sa_sigaction = function;
  else if (a.sa_handler != SIG_DFL || !wrapped) return;
  // Our handler, or SIG_DFL after SA_RESETHAND, which leaves the flags.
  if (!(flags & SA_SIGINFO)) a.sa_flags &= ~SA_SIGINFO;
}

bool has_our_handler(int signal) noexcept {
  sys::signal_action now;
  return sys::sigaction(signal, nullptr, &now) == 0 &&
         reinterpret_cast<std::uintptr_t>(now.handler) ==
             reinterpret_cast<std::uintptr_t>(note_and_call);
}

}  // namespace

int sigaction(int signal, const struct sigaction* action, struct sigaction* old) {
  // Out of range, or in a vfork child, which shares its parent's table.
  hub* h = core::hubs.front();
  if (signal <= 0 || signal >= _NSIG || (h && h->pid != sys::getpid())) {
    int r = real.sigaction(signal, action, old);
    if (r == 0 && old && signal > 0 && signal < _NSIG) {
      as_installed(*old, handlers[signal].function.load(), handlers[signal].flags.load(),
                   handlers[signal].wrapped.load());
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
    if ((wanted.sa_flags & SA_ONSTACK) && !only_faults(signal)) core::program_has_signal_stacks();
    program_handles.store(has_our_handler, std::memory_order_release);
    // Change the table first: the handler may run as soon as the system call is made.
    entry.flags = action->sa_flags;
    entry.mask = core::mask_of(action->sa_mask);
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

// The common part of signal(2) in its two traditions.
sighandler_t install(int signal, sighandler_t handler, int flags, bool blocks_itself) noexcept {
  if (handler == SIG_ERR || signal <= 0 || signal >= _NSIG) {
    errno = EINVAL;
    return SIG_ERR;
  }
  struct sigaction a = {}, old;
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
  return install(signal, handler, int(SA_RESETHAND | SA_NODEFER) | 0x20000000 /* SA_INTERRUPT */,
                 false);
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
    if (posix::sigprocmask(SIG_BLOCK, &set, &before) < 0) return SIG_ERR;
    struct sigaction is;
    if (sigismember(&before, signal)) return SIG_HOLD;
    return posix::sigaction(signal, nullptr, &is) < 0 ? SIG_ERR : is.sa_handler;
  }
  struct sigaction a = {}, old;
  a.sa_handler = handler;
  if (posix::sigaction(signal, &a, &old) < 0 || posix::sigprocmask(SIG_UNBLOCK, &set, &before) < 0)
    return SIG_ERR;
  return sigismember(&before, signal) ? SIG_HOLD : old.sa_handler;
}

namespace {

int wait_for_handler() noexcept {
  core::wait_info what;
  what.kind = core::wait_kind::signal;
  what.wakeable_by_system = what.interruptible = what.for_signal = true;
  hub& h = my_hub();
  bool shares = core::current != core::current->storage->signals.owner;
  if (shares) h.signals.sharing_waits++;
  int r;
  do r = wait_parked(what, deadline::never(), on_signal::always);
  while (r == 0);
  if (shares) h.signals.sharing_waits--;
  return r;
}

// Takes a signal that was sent to the running thread alone.
bool take_own(std::uint64_t set, siginfo_t* info, int& signal) noexcept {
  core::thread_storage& t = *core::current->storage;
  if (!(t.signals.pending & set)) return false;
  core::handlers_deferred quiet;
  siginfo_t found;
  if (!my_hub().signals.take_pending(t, set, found)) return false;
  signal = !info || copy_out(info, found) ? found.si_signo : -EFAULT;
  return true;
}

}  // namespace

int pause() {
  if (!cooperative()) return real.pause();
  return result<int>(wait_for_handler());
}

int sigsuspend(const sigset_t* mask) {
  if (!cooperative()) return real.sigsuspend(mask);
  mask_while_waiting masked(mask);
  if (masked.error()) return result<int>(masked.error());
  // A signal that was pending has been handled by now, and ends the wait at once.
  return result<int>(wait_for_handler());
}

namespace {

// The signals that a thread waits for in sigwait(3) and related calls.
struct awaited_signal {
  std::uint64_t set;
  siginfo_t* info;
  deadline until;
  core::nanoseconds pause = 1'000'000;
  long result = -EAGAIN;  // the signal's number; -EAGAIN: none has come

  // Takes a pending signal. False: there is none.
  bool take() noexcept {
    timespec none{};
    int own = 0;
    result = take_own(set, info, own) ? own : sys::call(SYS_rt_sigtimedwait, &set, info, &none, 8);
    if (result == -EAGAIN) return false;
    // The C library reports pthread_kill() like kill().
    if (result > 0 && info && info->si_code == SI_TKILL) info->si_code = SI_USER;
    return true;
  }
  // See wait_for_source().
  static deadline look(void* p, bool reports) noexcept {
    awaited_signal& a = *static_cast<awaited_signal*>(p);
    if (a.take()) return deadline{0};
    if (reports) return a.until;
    deadline next = deadline::after(core::now(), a.pause);
    if (a.pause < 50'000'000) a.pause *= 2;
    return deadline{std::min(a.until.at, next.at)};
  }
};

}  // namespace

int sigtimedwait(const sigset_t* set, siginfo_t* info, const timespec* timeout) {
  timespec t;
  if (!cooperative() || !in_hubs_process() || (timeout && !copy_in(t, timeout)))
    return real.sigtimedwait(set, info, timeout);
  if (timeout) timeout = &t;
  if (!valid(timeout)) return real.sigtimedwait(set, info, timeout);
  if (!sys::readable(set, 8)) return result<int>(-EFAULT);
  awaited_signal awaited{core::mask_of(*set), info, time_from_now(timeout)};
  bool only_look = timeout && timeout->tv_sec == 0 && timeout->tv_nsec == 0;
  core::signal_state& s = core::current->storage->signals;
  while (!awaited.take() && !only_look) {
    s.awaited = awaited.set;
    int w = wait_for_source(core::source::signals, awaited_signal::look, &awaited);
    s.awaited = 0;
    if (awaited.result != -EAGAIN || awaited.take()) break;
    if (w == -ETIMEDOUT && awaited.until.passed(core::now())) break;
    if (w == -EINTR || w == -ECANCELED) return result<int>(w);
  }
  return result<int>(awaited.result);
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
