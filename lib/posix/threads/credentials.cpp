// setuid(2) and its kin, which change the whole process: the C library has a signal tell each of its threads to make the
// system call, and waits until all have. No signal reaches a fiber, nor needs to; the kernel thread that it runs on has
// the main thread's descriptor (in a child of fork, that of the thread that forked), so the call is made in that one's name.
#include <tendril/posix.hpp>

#include <grp.h>

#include "posix/threads/thread.hpp"

namespace tendril::posix {

namespace {

// The address of errno is taken for constant within a function: it is asked for where the thread pointer stays.
template <class F>
__attribute__((noinline)) long raw(F& f) noexcept {
  return f() < 0 ? -errno : 0;
}

template <class F>
__attribute__((noinline)) long in_name_of(void* pointer, F& f) noexcept {
  bool by_instruction = !core::switches_carry_any(core::system_call);
  void* mine = arch::thread_pointer();
  arch::set_thread_pointer(pointer, by_instruction);
  long r = raw(f);
  arch::set_thread_pointer(mine, by_instruction);
  return r;
}

template <class F>
int for_all_threads(F f) noexcept {
  if (!this_thread || !this_thread->is_fiber() || !in_hubs_process()) return f();
  // No handler may run on another thread's storage.
  std::uint64_t all = ~0ULL, mask;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &all, &mask, 8);
  long r = in_name_of(my_hub().first->storage->pointer, f);
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
  return result<int>(r);
}

}  // namespace

int setuid(uid_t user) {
  return for_all_threads([=] { return real.setuid(user); });
}
int setgid(gid_t group) {
  return for_all_threads([=] { return real.setgid(group); });
}
int seteuid(uid_t effective) {
  return for_all_threads([=] { return real.seteuid(effective); });
}
int setegid(gid_t effective) {
  return for_all_threads([=] { return real.setegid(effective); });
}
int setreuid(uid_t user, uid_t effective) {
  return for_all_threads([=] { return real.setreuid(user, effective); });
}
int setregid(gid_t group, gid_t effective) {
  return for_all_threads([=] { return real.setregid(group, effective); });
}
int setresuid(uid_t user, uid_t effective, uid_t saved) {
  return for_all_threads([=] { return real.setresuid(user, effective, saved); });
}
int setresgid(gid_t group, gid_t effective, gid_t saved) {
  return for_all_threads([=] { return real.setresgid(group, effective, saved); });
}
int setgroups(size_t n, const gid_t* groups) {
  return for_all_threads([=] { return real.setgroups(n, groups); });
}
int initgroups(const char* user, gid_t group) {
  return for_all_threads([=] { return real.initgroups(user, group); });
}

}  // namespace tendril::posix
