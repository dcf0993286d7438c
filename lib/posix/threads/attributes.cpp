// The attributes of threads that are fibers, read and changed: stack, name, processors and
// scheduling.
//
// The fibers of a hub share its kernel thread, so processors and priorities are stored only to be
// reported; the kernel is asked whether it would have allowed them.
#include <tendril/pthread.hpp>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "posix/threads/attributes.hpp"

namespace tendril::posix {

namespace {

constexpr std::size_t longest_name = 16;  // TASK_COMM_LEN
static_assert(longest_name <= sizeof(fiber::name));

// The fiber with that number, or the running one for 0; null: a kernel thread, or no thread.
thread* fiber_with(pid_t tid) noexcept {
  thread* t = tid == 0 ? this_thread : thread_of(int(tid));
  return t && t->is_fiber() ? t : nullptr;
}
thread* fiber_of(pthread_t id) noexcept {
  thread* t = thread_of(id);
  return t && t->is_fiber() ? t : nullptr;
}
bool has_ended(const thread* t) noexcept {
  return t->life.load(std::memory_order_acquire) & thread::ended;
}

int set_policy(thread* t, int policy, const sched_param* theirs) noexcept {
  sched_param p{};
  if (theirs && !copy_in(p, theirs)) return EFAULT;
  if (int r = scheduling_allowed(policy, theirs ? &p : nullptr)) return r;
  t->policy = policy;
  t->priority = p.sched_priority;
  return 0;
}

// The processors that the process is allowed to use.
const cpu_set_t& processors() noexcept {
  static cpu_set_t all;
  static std::atomic<bool> known{false};
  if (!known.load(std::memory_order_acquire)) {
    cpu_set_t mine, every, possible;
    CPU_ZERO(&mine);
    memset(&every, -1, sizeof every);
    CPU_ZERO(&possible);
    sys::call(SYS_sched_getaffinity, 0, sizeof mine, &mine);
    bool widened = sys::call(SYS_sched_setaffinity, 0, sizeof every, &every) == 0;
    sys::call(SYS_sched_getaffinity, 0, sizeof possible, &possible);
    if (widened) sys::call(SYS_sched_setaffinity, 0, sizeof mine, &mine);
    all = possible;
    known.store(true, std::memory_order_release);
  }
  return all;
}

// As the system call: returns how many bytes were filled in, or -errno.
long processors_of(const thread* t, std::size_t size, cpu_set_t* set) noexcept {
  cpu_set_t of_process;
  CPU_ZERO(&of_process);
  long n = sys::call(SYS_sched_getaffinity, my_hub().tid,
                     size < sizeof of_process ? size : sizeof of_process, &of_process);
  // (The second call lets the kernel check that the program may write there.)
  if (n >= 0)
    n = sys::call(SYS_sched_getaffinity, my_hub().tid,
                  size < sizeof of_process ? size : sizeof of_process, set);
  if (n > 0) memcpy(set, t->processors ? t->processors : &of_process, std::size_t(n));
  return n;
}

// As the C library's function: clears the bytes that the kernel leaves alone.
long get_processors(const thread* t, std::size_t size, cpu_set_t* set) noexcept {
  long n = processors_of(t, size, set);
  if (n >= 0) memset(reinterpret_cast<char*>(set) + n, 0, size - std::size_t(n));
  return n;
}

int set_name(thread* t, const char* name) noexcept {
  std::size_t n = strlen(name);
  if (n >= longest_name) return ERANGE;
  memcpy(t->runs->name, name, n + 1);
  return 0;
}

}  // namespace

void name_after_creator(thread& t) noexcept {
  char* name = t.runs->name;
  if (this_thread && this_thread->is_fiber()) memcpy(name, this_thread->runs->name, longest_name);
  else sys::call(SYS_prctl, PR_GET_NAME, name, 0, 0, 0);
}

void own_scheduling(int& policy, int& priority) noexcept {
  if (thread* t = this_thread; t && t->is_fiber()) {
    policy = t->policy;
    priority = t->priority;
    return;
  }
  sched_param p{};
  policy = int(sys::call(SYS_sched_getscheduler, 0));
  sys::call(SYS_sched_getparam, 0, &p);
  priority = p.sched_priority;
}

int set_processors(thread* t, std::size_t size, const cpu_set_t* wanted) noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (!copy_in(&set, wanted, size < sizeof set ? size : sizeof set)) return EFAULT;
  CPU_AND(&set, &set, &processors());
  if (CPU_COUNT(&set) == 0) return EINVAL;
  auto* kept = t->processors ? t->processors : static_cast<cpu_set_t*>(malloc(sizeof set));
  if (!kept) return ENOMEM;
  *kept = set;
  t->processors = kept;
  return 0;
}

// Asks the kernel whether it allows that policy and priority, by setting them on our own thread and
// restoring it at once. 0, or an error number.
int scheduling_allowed(int policy, const sched_param* p) noexcept {
  if (!p) return EINVAL;
  int flag = policy & SCHED_RESET_ON_FORK;
  switch (policy & ~flag) {
    case SCHED_OTHER:
    case SCHED_BATCH:
    case SCHED_IDLE:
      return p->sched_priority == 0 ? 0 : EINVAL;
  }
  int mine = int(sys::call(SYS_sched_getscheduler, 0));
  sched_param before{};
  sys::call(SYS_sched_getparam, 0, &before);
  long r = sys::call(SYS_sched_setscheduler, 0, policy, p);
  if (r == 0) sys::call(SYS_sched_setscheduler, 0, mine, &before);
  return int(-r);
}

int pthread_getattr_np(pthread_t id, pthread_attr_t* a) {
  thread* t = fiber_of(id);
  if (!t) return real.pthread_getattr_np(id, a);
  if (int r = pthread_attr_init(a)) return r;
  sched_param p{};
  p.sched_priority = t->priority;
  bool detached = t->life.load(std::memory_order_relaxed) & thread::detached;
  pthread_attr_setdetachstate(a, detached ? PTHREAD_CREATE_DETACHED : PTHREAD_CREATE_JOINABLE);
  pthread_attr_setguardsize(a, t->guard_size);
  pthread_attr_setinheritsched(
      a, t->explicit_scheduling ? PTHREAD_EXPLICIT_SCHED : PTHREAD_INHERIT_SCHED);
  pthread_attr_setschedpolicy(a, t->policy);
  pthread_attr_setschedparam(a, &p);
  pthread_attr_setstack(a, t->stack_address, t->stack_size);
  cpu_set_t set;
  CPU_ZERO(&set);
  long n = core::current ? get_processors(t, sizeof set, &set) : 0;
  if (n > 0) pthread_attr_setaffinity_np(a, std::size_t(n), &set);
  return 0;
}

int pthread_setname_np(pthread_t id, const char* name) {
  thread* t = fiber_of(id);
  return t ? set_name(t, name) : real.pthread_setname_np(id, name);
}

int pthread_getname_np(pthread_t id, char* name, size_t n) {
  thread* t = fiber_of(id);
  if (!t) return real.pthread_getname_np(id, name, n);
  if (n < longest_name) return ERANGE;
  char own[longest_name] = {};
  strcpy(own, t->runs->name);
  return copy_out(name, own, strlen(own) + 1) ? 0 : EFAULT;
}

int prctl(int what, unsigned long a, unsigned long b, unsigned long c, unsigned long d) {
  thread* t = this_thread;
  if (t && t->is_fiber()) {
    if (what == PR_SET_NAME) {
      char name[longest_name] = {};
      if (!copy_text_in(name, reinterpret_cast<const char*>(a), longest_name - 1))
        return result<int>(-EFAULT);
      return set_name(t, name);
    }
    if (what == PR_GET_NAME) {
      char name[longest_name] = {};
      strcpy(name, t->runs->name);
      return result<int>(copy_out(reinterpret_cast<char*>(a), name, longest_name) ? 0 : -EFAULT);
    }
  }
  int r = real.prctl(what, a, b, c, d);
  if (what == PR_SET_SECCOMP && a == SECCOMP_MODE_FILTER) {
    if (r == 0) sys::look_at_filter(*reinterpret_cast<const sock_fprog*>(b));
    if (!b) sys::expect_filter();
  }
  return r;
}

int pthread_setschedparam(pthread_t id, int policy, const struct sched_param* p) {
  thread* t = fiber_of(id);
  if (!t) return real.pthread_setschedparam(id, policy, p);
  return has_ended(t) ? ESRCH : set_policy(t, policy, p);
}

int pthread_getschedparam(pthread_t id, int* policy, struct sched_param* p) {
  thread* t = fiber_of(id);
  if (!t) return real.pthread_getschedparam(id, policy, p);
  if (has_ended(t)) return ESRCH;
  *policy = t->policy;
  p->sched_priority = t->priority;
  return 0;
}

int pthread_setschedprio(pthread_t id, int priority) {
  thread* t = fiber_of(id);
  if (!t) return real.pthread_setschedprio(id, priority);
  sched_param p{};
  p.sched_priority = priority;
  return has_ended(t) ? ESRCH : set_policy(t, t->policy, &p);
}

int pthread_setaffinity_np(pthread_t id, size_t n, const cpu_set_t* set) {
  thread* t = fiber_of(id);
  if (!t) return real.pthread_setaffinity_np(id, n, set);
  return has_ended(t) ? ESRCH : set_processors(t, n, set);
}

int pthread_getaffinity_np(pthread_t id, size_t n, cpu_set_t* set) {
  thread* t = fiber_of(id);
  if (!t || !core::current) return real.pthread_getaffinity_np(id, n, set);
  if (has_ended(t)) return ESRCH;
  long r = get_processors(t, n, set);
  return r < 0 ? int(-r) : 0;
}

int sched_setaffinity(pid_t tid, size_t n, const cpu_set_t* set) {
  thread* t = fiber_with(tid);
  if (!t) return real.sched_setaffinity(tid, n, set);
  return result<int>(-set_processors(t, n, set));
}

int sched_getaffinity(pid_t tid, size_t n, cpu_set_t* set) {
  thread* t = fiber_with(tid);
  if (!t || !core::current) return real.sched_getaffinity(tid, n, set);
  long r = get_processors(t, n, set);
  return result<int>(r < 0 ? r : 0);
}

int sched_setscheduler(pid_t tid, int policy, const struct sched_param* p) {
  thread* t = fiber_with(tid);
  if (!t) return real.sched_setscheduler(tid, policy, p);
  return result<int>(-set_policy(t, policy, p));
}

int sched_getscheduler(pid_t tid) {
  thread* t = fiber_with(tid);
  return t ? t->policy : real.sched_getscheduler(tid);
}

int sched_setparam(pid_t tid, const struct sched_param* p) {
  thread* t = fiber_with(tid);
  if (!t) return real.sched_setparam(tid, p);
  return result<int>(-set_policy(t, t->policy, p));
}

int sched_getparam(pid_t tid, struct sched_param* p) {
  thread* t = fiber_with(tid);
  if (!t) return real.sched_getparam(tid, p);
  if (!p) return result<int>(-EINVAL);
  sched_param mine{};
  mine.sched_priority = t->priority;
  return result<int>(copy_out(p, mine) ? 0 : -EFAULT);
}

namespace {

// The part of the kernel's struct sched_attr that every policy has.
struct scheduling {
  std::uint32_t size, policy;
  std::uint64_t flags;  // 1: SCHED_FLAG_RESET_ON_FORK
  std::int32_t nice;
  std::uint32_t priority;
};

}  // namespace

long sched_setattr(pid_t tid, const void* attributes, unsigned flags) noexcept {
  thread* t = fiber_with(tid);
  if (!t || !attributes || flags)
    return sys::call(SYS_sched_setattr, t ? 0 : tid, attributes, flags);
  scheduling a;
  if (!copy_in(a, static_cast<const scheduling*>(attributes))) return -EFAULT;
  sched_param p{};
  p.sched_priority = int(a.priority);
  return -set_policy(t, int(a.policy) | (a.flags & 1 ? SCHED_RESET_ON_FORK : 0), &p);
}

long sched_getattr(pid_t tid, void* attributes, unsigned size, unsigned flags) noexcept {
  thread* t = fiber_with(tid);
  long r = sys::call(SYS_sched_getattr, t ? 0 : tid, attributes, size, flags);
  if (!t || r < 0) return r;
  auto& a = *static_cast<scheduling*>(attributes);
  a.policy = std::uint32_t(t->policy & ~SCHED_RESET_ON_FORK);
  a.priority = std::uint32_t(t->priority);
  a.flags = (a.flags & ~1ULL) | (t->policy & SCHED_RESET_ON_FORK ? 1 : 0);
  return r;
}

long sched_getaffinity_by_number(pid_t tid, std::size_t size, cpu_set_t* set) noexcept {
  thread* t = fiber_with(tid);
  if (!t || !core::current) return sys::call(SYS_sched_getaffinity, tid, size, set);
  return processors_of(t, size, set);
}

int sched_rr_get_interval(pid_t tid, timespec* interval) {
  return real.sched_rr_get_interval(fiber_with(tid) ? 0 : tid, interval);
}

// --- what a thread is created with ---

namespace {

void read_attributes(const pthread_attr_t* from, attributes& a) noexcept {
  void* stack = nullptr;
  pthread_attr_getstack(from, &stack, &a.stack_size);
  std::size_t given = 0;
  pthread_attr_getstacksize(from, &given);
  int state = 0, inherits = 0;
  pthread_attr_getdetachstate(from, &state);
  pthread_attr_getguardsize(from, &a.guard_size);
  pthread_attr_getinheritsched(from, &inherits);
  a.detached = state == PTHREAD_CREATE_DETACHED;
  // Without a stack address, the C library computes one below zero.
  if (reinterpret_cast<std::uintptr_t>(stack) + a.stack_size != 0 && a.stack_size == given)
    a.stack = stack;
  a.stack_size = given;
  if (inherits == PTHREAD_EXPLICIT_SCHED) {
    a.explicit_scheduling = true;
    sched_param p{};
    pthread_attr_getschedpolicy(from, &a.policy);
    pthread_attr_getschedparam(from, &p);
    a.priority = p.sched_priority;
  }
  sigset_t mask;
  a.has_mask = pthread_attr_getsigmask_np(from, &mask) == 0;
  if (a.has_mask) memcpy(&a.mask, &mask, sizeof a.mask);
  // If all possible processors are set, none were given.
  cpu_set_t all;
  memset(&all, -1, sizeof all);
  a.has_processors = pthread_attr_getaffinity_np(from, sizeof a.processors, &a.processors) == 0 &&
                     !CPU_EQUAL(&a.processors, &all);
}

}  // namespace

int refused_sizes(attributes& a) noexcept {
  constexpr std::size_t least_rest = 2048;  // MINIMAL_REST_STACK
  std::size_t guard = core::whole_pages(a.guard_size);
  a.stack_size &= ~(core::tls::alignment() - 1);
  if (guard < a.guard_size || a.stack_size + guard < guard) return EINVAL;
  if (a.stack_size + guard < core::whole_pages(guard + core::tls::size_on_stack() + least_rest))
    return EINVAL;
  a.guard_size = guard;
  return 0;
}

void attributes_for(const pthread_attr_t* given, attributes& a) noexcept {
  pthread_attr_t usual;
  bool has_usual = pthread_getattr_default_np(&usual) == 0;
  if (given || has_usual) read_attributes(given ? given : &usual, a);
  if (a.stack_size == 0 && has_usual) pthread_attr_getstacksize(&usual, &a.stack_size);
  if (has_usual) pthread_attr_destroy(&usual);
  if (!a.explicit_scheduling) own_scheduling(a.policy, a.priority);
}

}  // namespace tendril::posix
