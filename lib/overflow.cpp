#include "overflow.hpp"

#include <signal.h>
#include <sys/auxv.h>

namespace tendril::core {

namespace {

constexpr unsigned long sa_restorer = 0x04000000;
constexpr std::size_t room = 64 * 1024;  // only what is used becomes memory

// struct sigaction as the kernel sees it.
struct kernel_action {
  void (*handler)(int, siginfo_t*, void*) noexcept = nullptr;
  unsigned long flags = 0;
  void (*restorer)() noexcept = nullptr;
  std::uint64_t mask = 0;
};

int action(const kernel_action* set, kernel_action* old) noexcept {
  return (int)sys::call(SYS_rt_sigaction, SIGSEGV, set, old, sizeof set->mask);
}

void on_fault(int, siginfo_t* info, void*) noexcept {
  if (fiber* f = current; f && info->si_code > 0 && f->stk.guards(info->si_addr)) {
    const char* name = f->name[0] ? f->name : "unnamed";
    sys::say("fiber ", sys::number(long(f->id)), " (", name, ") overflowed its stack of ",
             sys::number(long(f->stk.size / 1024)),
             " KB; set TENDRIL_STACK_SIZE, or fiber_options::stack_size for this fiber");
  }
  kernel_action none;
  action(&none, nullptr);
  // The instruction faults again as soon as this returns; a signal that somebody sent has to be sent again.
  if (info->si_code <= 0) sys::call(SYS_tgkill, sys::getpid(), sys::gettid(), SIGSEGV);
}

std::size_t signal_stack_size() noexcept {
  std::size_t least = getauxval(AT_MINSIGSTKSZ);  // large vector registers are saved there too
  return least + 8 * 1024 > room ? least + room : room;
}

}  // namespace

void watch_overflow(fiber_home& home) noexcept {
  home.watches_overflow = true;
  kernel_action old;
  if (action(nullptr, &old) < 0) return;
  if (old.handler != on_fault) {
    if (old.handler) return;  // handled, or ignored
    kernel_action ours;
    ours.handler = on_fault;
    ours.flags = SA_SIGINFO | SA_ONSTACK;
    if constexpr (arch::signal_needs_restorer) {
      ours.flags |= sa_restorer;
      ours.restorer = arch::signal_return;
    }
    if (action(&ours, &old) < 0) return;
    // Another kernel thread was quicker to handle it.
    if (old.handler && old.handler != on_fault) {
      action(&old, nullptr);
      return;
    }
  }
  if (alternate_stacks_matter.load(std::memory_order_relaxed)) return;
  stack_t has{};
  if (sys::call(SYS_sigaltstack, 0, &has) < 0 || !(has.ss_flags & SS_DISABLE)) return;
  stack_t gets{};
  gets.ss_size = signal_stack_size();
  gets.ss_sp = sys::map(gets.ss_size);
  if (!gets.ss_sp) return;
  if (sys::call(SYS_sigaltstack, &gets, 0) < 0) return sys::unmap(gets.ss_sp, gets.ss_size);
  home.signal_stack = gets.ss_sp;
}

stack_t usual_signal_stack(const fiber_home& home) noexcept {
  if (!home.signal_stack || alternate_stacks_matter.load(std::memory_order_relaxed)) return {nullptr, SS_DISABLE, 0};
  return {home.signal_stack, 0, signal_stack_size()};
}

void drop_signal_stack(fiber_home& home) noexcept {
  stack_t has{};
  sys::call(SYS_sigaltstack, 0, &has);
  if (has.ss_sp == home.signal_stack && !(has.ss_flags & SS_DISABLE)) {
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    if (sys::call(SYS_sigaltstack, &none, 0) < 0) return;  // a handler runs on it
  }
  sys::unmap(home.signal_stack, signal_stack_size());
  home.signal_stack = nullptr;
}

}  // namespace tendril::core
