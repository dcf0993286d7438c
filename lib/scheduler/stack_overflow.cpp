#include "scheduler/stack_overflow.hpp"

#include <signal.h>
#include <ucontext.h>

#include "fiber/signal_stack.hpp"
#include "fiber/stack_protection.hpp"
#include "fiber/thread_stacks.hpp"
#include "thread/tls.hpp"

namespace tendril::core {

namespace {

// Whether the fiber stands for a thread: it has storage of its own, and is the thread's own fiber,
// whose calls the thread's handlers interrupt.
bool is_thread(const fiber* f) noexcept {
  return f->storage != &f->home->storage && f->storage->signals.owner == f;
}

// A frame can be larger than the guard: then the stack pointer is far below the stack, and the
// fault is above the stack pointer.
bool overflows(const stack& s, const siginfo_t& info, const ucontext_t& where) noexcept {
  auto at = reinterpret_cast<std::uintptr_t>(info.si_addr),
       bottom = reinterpret_cast<std::uintptr_t>(s.bottom());
  constexpr std::uintptr_t red_zone = 256, largest_frame = std::uintptr_t(1) << 30;
  std::uintptr_t sp = arch::stack_pointer(where);
  return s.guards(info.si_addr) || (s.size && sp < bottom && bottom - sp < largest_frame &&
                                    at < bottom && at + red_zone >= sp);
}

void on_fault(int, siginfo_t* info, void* where) noexcept {
  if (allows_code(*info, where)) return;
  if (fiber* f = current;
      f && info->si_code > 0 && overflows(f->stk, *info, *static_cast<ucontext_t*>(where))) {
    bool thread = is_thread(f);
    sys::say(thread ? "thread " : "fiber ",
             sys::number(thread ? *tls::tid(f->storage->pointer) : long(f->id)), " (",
             f->name[0] ? f->name : "unnamed", ") overflowed its stack of ",
             sys::number(long(f->stk.size / 1024)),
             thread
                 ? " KB; ulimit -s, or pthread_attr_setstacksize() for this thread, gives it more"
                 : " KB; set TENDRIL_STACK_SIZE, or fiber_options::stack_size for this fiber");
  }
  sys::signal_action none;
  sys::sigaction(SIGSEGV, &none, nullptr);
  // The instruction faults again as soon as this returns; a signal that was sent by a process must
  // be sent again.
  if (info->si_code <= 0) sys::call(SYS_tgkill, sys::getpid(), sys::gettid(), SIGSEGV);
}

}  // namespace

bool allows_code(const siginfo_t& info, const void* where) noexcept {
  if (info.si_signo != SIGSEGV || info.si_code != SEGV_ACCERR || !current) return false;
  if (arch::program_counter(*static_cast<const ucontext_t*>(where)) != info.si_addr) return false;
  stack_pool& fibers = current->home->stacks;
  bool unprepared = (!fibers.allows_code() && fibers.holds(info.si_addr)) ||
                    (!thread_stacks::allows_code() && thread_stacks::holds(info.si_addr));
  if (current->runtime_depth || !unprepared) return false;
  look_at_stack_protection();
  if (!stacks_hold_code()) return false;
  fibers.allow_code();
  thread_stacks::allow_code();
  return true;
}

void watch_overflow(fiber_home& home) noexcept {
  sys::signal_action old;
  if (sys::sigaction(SIGSEGV, nullptr, &old) < 0) return;
  if (old.handler != on_fault) {
    if (old.handler) return;  // handled, or ignored
    sys::signal_action ours(on_fault, SA_ONSTACK);
    if (sys::sigaction(SIGSEGV, &ours, &old) < 0) return;
    // Another kernel thread has installed a handler meanwhile.
    if (old.handler && old.handler != on_fault) {
      sys::sigaction(SIGSEGV, &old, nullptr);
      return;
    }
  }
  set_signal_stack(home);
}

bool is_overflow_handler(void (*handler)(int, siginfo_t*, void*)) noexcept {
  return handler == on_fault;
}

}  // namespace tendril::core
