#include "base/sys.hpp"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>

namespace tendril::sys {

namespace {

int ask_kernel(clockid_t clock, timespec* t) { return (int)call(SYS_clock_gettime, clock, t); }

__attribute__((constructor)) void look_for_vdso() noexcept {
  void* vdso = dlopen("linux-vdso.so.1", RTLD_LAZY | RTLD_NOLOAD);
  void* found = vdso ? dlsym(vdso, arch::vdso_clock_gettime) : nullptr;
  if (found)
    clock_of_kernel.store(reinterpret_cast<clock_source>(found), std::memory_order_relaxed);
  else dlerror();  // clear our error, so that the program does not see it
}

}  // namespace

constinit std::atomic<clock_source> clock_of_kernel{ask_kernel};

int epoll_wait(int ep, epoll_event* e, int n, const timespec* timeout,
               const std::uint64_t* mask) noexcept {
  if (!is_refused(SYS_epoll_pwait2)) {
    int r = (int)call(SYS_epoll_pwait2, ep, e, n, timeout, mask, 8);
    if (r >= 0 || r == -EINTR || !turns_out_refused(SYS_epoll_pwait2)) return r;
  }
  long ms = -1;
  if (timeout) {
    ms = timeout->tv_sec > 2'000'000
             ? 2'000'000'000
             : timeout->tv_sec * 1000 + (timeout->tv_nsec + 999'999) / 1'000'000;
  }
  return (int)call(SYS_epoll_pwait, ep, e, n, ms, mask, 8);
}

long poll_now(void* pollfds, unsigned long n, const void* mask) noexcept {
  if (!is_refused(SYS_ppoll)) {
    timespec none{};
    long r = call(SYS_ppoll, pollfds, n, &none, mask, 8);
    if (r >= 0 || r == -EINTR || !turns_out_refused(SYS_ppoll)) return r;
  }
#ifdef SYS_poll
  if (!mask) return call(SYS_poll, pollfds, n, 0);
#endif
  return -ENOSYS;
}

void say_line(const text* pieces, int count) noexcept {
  iovec v[16];
  if (count > 16) count = 16;
  for (int i = 0; i < count; i++) v[i] = {const_cast<char*>(pieces[i].p), pieces[i].n};
  call(SYS_writev, 2, v, count);
}

void abort_now() noexcept {
  // Like abort(3): take the default action even if SIGABRT is blocked or handled.
  std::uint64_t set = 1ULL << (SIGABRT - 1);
  call(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, 0, 8);
  call(SYS_tgkill, getpid(), gettid(), SIGABRT);
  // Still here: it is ignored, or a handler has returned.
  const unsigned long default_action[8] = {};  // the kernel's sigaction
  call(SYS_rt_sigaction, SIGABRT, default_action, 0, 8);
  call(SYS_tgkill, getpid(), gettid(), SIGABRT);
  for (;;) call(SYS_exit_group, 134);
}

}  // namespace tendril::sys
