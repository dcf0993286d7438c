#include "fiber/switch.hpp"

#include "fiber/cpu_time.hpp"
#include "fiber/trace.hpp"
#include "thread/identity.hpp"

namespace tendril::core {

void carry_all(thread_storage* from, thread_storage* to, fiber_home* home) noexcept {
  unsigned char carried = switches_carry.load(std::memory_order_relaxed);
  if (!arch::set_thread_pointer(to->pointer, !(carried & system_call))) [[unlikely]]
    sys::die("a filter (seccomp) forbids to set the thread pointer; use --threads=kernel");
  if (from->float_flags != to->float_flags)
    arch::set_float_flags(from->float_flags, to->float_flags);
  if (carried & cpu_time) count_cpu_time(*from, *to, *home);
  if (carried & identities) carry_identity(*from, *to);
  if (carried & protection_rights) {
    // Inside a signal handler the rights are the kernel's defaults until the handler returns. A
    // thread that is switched out there gets its own rights back by that return.
    from->protection = arch::protection_rights();
    if (from->protection != to->protection) arch::set_protection_rights(to->protection);
  }
  signal_state& a = from->signals;
  signal_state& b = to->signals;
  if (a.unsure) {
    std::uint64_t now = 0;
    sys::call(SYS_rt_sigprocmask, SIG_BLOCK, 0, &now, 8);
    if (home->several_threads && !a.gone) home->masks.change(a.mask, now);
    a.mask = now;
    a.unsure = a.depth > 0;
  }
  if (b.due) home->handlers_are_due = true;
  if (a.mask != b.mask) sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &b.mask, 0, 8);
}

void post_switch(fiber* from, fiber* self) noexcept {
  left_behind(from);
  if (from->departs) self->home->calls->depart(from);
  if (self->home->trace) report_to_tracer(from, self);
}

#ifndef __x86_64__
switch_result jump(void* to, void* cargo) noexcept { return jump_ending(to, cargo); }
#endif

}  // namespace tendril::core
