#include "fiber/signal_stack.hpp"

#include <sys/auxv.h>

namespace tendril::core {

namespace {

// memory is allocated only for the pages that are used
constexpr std::size_t room = 64 * 1024;
constinit std::atomic<bool> programs_own{false};  // see program_has_signal_stacks()

std::size_t signal_stack_size() noexcept {
  std::size_t least = getauxval(AT_MINSIGSTKSZ);  // large vector registers are saved there, too
  return least + 8 * 1024 > room ? least + room : room;
}

}  // namespace

void set_signal_stack(fiber_home& home) noexcept {
  if (programs_own.load(std::memory_order_relaxed) || sys::is_refused(SYS_sigaltstack)) return;
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
  if (!home.signal_stack || programs_own.load(std::memory_order_relaxed))
    return {nullptr, SS_DISABLE, 0};
  return {home.signal_stack, 0, signal_stack_size()};
}

void program_has_signal_stacks() noexcept {
  if (programs_own.exchange(true) || !current) return;
  const fiber_home& home = *current->home;
  stack_t has{};
  if (sys::call(SYS_sigaltstack, 0, &has) < 0 || !home.signal_stack ||
      has.ss_sp != home.signal_stack)
    return;
  has.ss_flags = SS_DISABLE;
  sys::call(SYS_sigaltstack, &has, 0);
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
