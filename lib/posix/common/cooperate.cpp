#include "posix/common/cooperate.hpp"

#include <poll.h>

namespace tendril::posix {

namespace {

bool on_alternate_stack(const core::signal_state& s, const void* here) noexcept {
  if (my_hub().several_threads)
    return core::stands_on(s.stack, here) || core::stands_on(s.entered, here);
  stack_t alternate{};
  return sys::call(SYS_sigaltstack, 0, &alternate) < 0 || (alternate.ss_flags & SS_ONSTACK);
}

// Whether the handler with that mark is still running, seen from a frame at `here`. A handler was
// left by siglongjmp if the stack has shrunk past its mark, if its mark was overwritten since, or
// if we are on another stack.
__attribute__((no_sanitize("address"))) bool still_runs(const core::signal_state& s,
                                                        const core::running_handler& h,
                                                        const char* here) noexcept {
  constexpr std::ptrdiff_t one_stack = 8 << 20;
  std::ptrdiff_t deeper = reinterpret_cast<const char*>(h.mark) - here;
  if (deeper >= 0 && deeper < one_stack)
    return *static_cast<const volatile std::uint64_t*>(h.mark) == h.serial;
  if (deeper < 0 && deeper > -one_stack) return false;
  // Only a handler on the alternate signal stack has another stack beneath it.
  return on_alternate_stack(s, here);
}

}  // namespace

__attribute__((noinline, no_sanitize("address"))) bool in_handler(core::signal_state& s,
                                                                  const void* end) noexcept {
  const char* here = static_cast<const char*>(end ? end : arch::stack_pointer());
  int depth = s.depth;
  while (depth > 0 && !still_runs(s, s.handlers[depth - 1], here)) depth--;
  if (depth != s.depth) s.depth = depth;
  return depth > 0;
}

[[gnu::noinline]] static bool running_handler_stays(fiber* self, const void* here) noexcept {
  core::signal_state& s = self->storage->signals;
  if (!in_handler(s, here)) return false;
  hub& h = *hub::of(self);
  if (self->runtime_depth || !h.several_threads || s.owner != self) return true;
  return !fibers_are_threads(h) && on_alternate_stack(s, here ? here : arch::stack_pointer());
}

bool handler_stays(fiber* self, const void* here) noexcept {
  return self->storage->signals.depth && running_handler_stays(self, here);
}

constinit std::atomic<bool> always{false};
constinit std::atomic<bool> ticking{false};

void cooperate_always() noexcept { always = true; }

const char* io_uring_obstacle() noexcept { return core::poller::ring_obstacle(); }

[[gnu::noinline, gnu::cold]] int wait_in_kernel(int fd, std::uint32_t events,
                                                deadline until) noexcept {
  // EPOLLIN and POLLIN, ... are the same bits
  pollfd p{.fd = fd, .events = short(events), .revents = 0};
  timespec wait{}, *timeout = nullptr;
  if (!until.is_never()) {
    wait = time_left(until);
    timeout = &wait;
  }
  long r = sys::call(SYS_ppoll, &p, fd >= 0 ? 1 : 0, timeout, 0, 8);
  return r == 0 ? -ETIMEDOUT : r < 0 ? int(r) : 0;
}

namespace {

bool may_wait_here(fiber* self) noexcept {
  if (!others_here(self) && self->extra.limit == INT64_MAX) return false;
  return !handler_stays(self);
}

}  // namespace

bool may_wait_after_all(fiber* self) noexcept { return may_wait_here(self) && in_hubs_process(); }

void let_others_run() noexcept {
  if (may_wait()) give_way();
}

bool cooperative_here(fiber* self) noexcept {
  if (!may_wait_here(self)) return false;
  forget_signals();
  core::signal_state& s = self->storage->signals;
  if (self->masked && !in_handler(s)) [[unlikely]] {
    // Its last wait was left by siglongjmp.
    self->masked = false;
    s.masked--;
  }
  if (cancel_due()) [[unlikely]]
    act_on_cancel();
  return true;
}

int wait_parked(const core::wait_info& what, deadline until, on_signal rule,
                const std::atomic<std::uint32_t>* unparked, core::nanoseconds* ended) noexcept {
  hub& h = my_hub();
  fiber* self = core::current;
  if (until.is_never() && !ended && can_wait_fast(h, self, what.uninterruptible) &&
      no_handler_ran(self)) [[likely]] {
    core::wake why = core::wake::unparked;
    {
      core::handlers_deferred quiet;
      self->movable = what.movable;
      if (!unparked || !unparked->load(std::memory_order_acquire))
        why = core::park_fast(h, self, what);
      self->movable = false;
    }
    if (why == core::wake::unparked) return 0;
    return outcome(why, what, rule);
  }
  if (!in_hubs_process()) return wait_in_kernel(-1, 0, until);
  // Other fibers run meanwhile, and a call that succeeds must not change errno.
  int saved = errno;
  core::wake why;
  {
    core::handlers_deferred quiet;
    self->movable = what.movable;
    if (unparked && unparked->load(std::memory_order_acquire)) why = core::wake::unparked;
    else why = park_unless_interrupted(what, until, rule);
    self->movable = false;
    if (ended && why == core::wake::signal) *ended = core::now();
  }
  errno = saved;
  return outcome(why, what, rule);
}

int wait_for_source(core::source s, deadline (*look)(void*, bool) noexcept,
                    void* argument) noexcept {
  core::source_waiter w;
  w.who = core::current;
  core::wait_info what;
  what.kind = s == core::source::signals ? core::wait_kind::signal : core::wait_kind::sleep;
  what.wakeable_by_system = what.interruptible = true;
  hub& h = my_hub();
  int saved = errno;
  core::wake why = core::wake::unparked;
  {
    core::handlers_deferred quiet;
    deadline until = look(argument, h.io.add(w, s));
    if (until.at > 0) why = park_unless_interrupted(what, until, on_signal::always);
    h.io.remove(w);
  }
  errno = saved;
  return outcome(why, what, on_signal::always);
}

void keep_broken_pipe() noexcept {
  if (!core::current || !in_hubs_process() || !my_hub().several_threads) return;
  hub& h = my_hub();
  core::handlers_deferred quiet;
  std::uint64_t bit = core::signal_bit(SIGPIPE);
  if (!(h.signals.own_mask() & bit)) return;
  siginfo_t info;
  timespec none{};
  if (sys::call(SYS_rt_sigtimedwait, &bit, &info, &none, 8) == SIGPIPE)
    h.signals.post(*core::current->storage, SIGPIPE, info);
}

}  // namespace tendril::posix
