// clock_gettime(2), clock_getres(2), clock_settime(2), getrusage(2), pthread_getcpuclockid(3).
//
// The threads of a hub share a kernel thread and its CPU clock. To know how much each has used,
// every switch would have to read that clock, which costs ten times as much as the switch. So that
// is done only from the first query on. The time used before is estimated by ticks (preempt.cpp),
// each of which is charged to the running fiber: as exact as kernels were for a long time.
#include "posix/time/clock.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <new>

#include "fiber/cpu_time.hpp"

namespace tendril::posix {

namespace {

// The kernel's numbering: the clock of one thread, counted by the scheduler.
constexpr int clock_kind = 7, thread_by_scheduler = 6;
bool counts_a_thread(clockid_t clock) noexcept {
  return clock < 0 && (clock & clock_kind) == thread_by_scheduler;
}
int tid_of(clockid_t clock) noexcept { return ~(clock >> 3); }  // 0: the running thread's

// The living threads whose clock was asked for. Requires the guard.
constinit thread* known = nullptr;

timeval timeval_of(core::nanoseconds t) noexcept {
  return {.tv_sec = t / 1'000'000'000, .tv_usec = t % 1'000'000'000 / 1000};
}
core::nanoseconds nanoseconds_of(const timeval& t) noexcept {
  return t.tv_sec * 1'000'000'000 + t.tv_usec * 1000;
}

// The kernel's clock for it: that of its kernel thread.
clockid_t kernels(clockid_t clock) noexcept {
  if (clock >= 0 || !may_be_ours(clock)) return clock;
  clocks_guard guard;
  thread* t = thread_of_clock(clock);
  return t ? clock_of(hub::of(t->runs)->tid) : clock;
}

}  // namespace

constinit core::spin_lock living_clocks;

clockid_t clock_of(int tid) noexcept {
  return clockid_t(~unsigned(tid) << 3 | thread_by_scheduler);
}

bool is_own_clock(clockid_t clock) noexcept {
  return clock == CLOCK_THREAD_CPUTIME_ID ||
         (counts_a_thread(clock) && (tid_of(clock) == 0 || tid_of(clock) == own_tid()));
}

bool may_be_ours(clockid_t clock) noexcept {
  if (clock != CLOCK_THREAD_CPUTIME_ID && !counts_a_thread(clock)) return false;
  if (core::current && !in_hubs_process()) return false;
  return this_thread || !is_own_clock(clock);
}

thread* thread_of_clock(clockid_t clock) noexcept {
  if (is_own_clock(clock)) return this_thread;
  for (thread* t = known; t; t = t->next_known_clock) {
    if (*core::tls::tid(t->runs->storage->pointer) == tid_of(clock)) return t;
  }
  return thread_of(tid_of(clock));
}

core::nanoseconds cpu_time(core::thread_storage& t) noexcept {
  if (!core::switches_carry_any(core::cpu_time)) core::switches_carry |= core::cpu_time;
  hub& h = *hub::now_of(t.signals.owner);
  if (!core::current || core::current->home != &h) {
    core::nanoseconds used = core::cpu_time_elsewhere(t, h, clock_of(h.tid));
    // It may have moved meanwhile.
    return hub::now_of(t.signals.owner) == &h ? used : cpu_time(t);
  }
  core::handlers_deferred quiet;
  core::thread_storage& running = *core::current->storage;
  core::count_cpu_time(running, running, h);
  return t.cpu_time.load(std::memory_order_relaxed);
}

bool time_of_thread(clockid_t clock, core::nanoseconds& now) noexcept {
  if (!may_be_ours(clock)) return false;
  clocks_guard guard;
  thread* t = thread_of_clock(clock);
  if (t) now = cpu_time(*t->runs->storage);
  return t;
}

int clock_gettime(clockid_t clock, timespec* to) {
  if (clock != CLOCK_THREAD_CPUTIME_ID && clock >= 0) [[likely]]
    return real.clock_gettime(clock, to);
  core::nanoseconds n;
  if (!time_of_thread(clock, n)) return real.clock_gettime(clock, to);
  // Let the kernel check `to`.
  if (real.clock_gettime(CLOCK_THREAD_CPUTIME_ID, to) < 0) return -1;
  *to = {.tv_sec = n / 1'000'000'000, .tv_nsec = n % 1'000'000'000};
  return 0;
}

int clock_getres(clockid_t clock, timespec* to) { return real.clock_getres(kernels(clock), to); }
int clock_settime(clockid_t clock, const timespec* t) {
  return real.clock_settime(kernels(clock), t);
}

int pthread_getcpuclockid(pthread_t id, clockid_t* clock) {
  thread* t = thread_of(id);
  if (!t || !t->is_fiber()) return real.pthread_getcpuclockid(id, clock);
  clocks_guard guard;
  if (t->life.load(std::memory_order_acquire) & thread::ended || t->runs->storage->signals.gone)
    return ESRCH;
  if (!t->clock_is_known) t->next_known_clock = known, known = t;
  t->clock_is_known = true;
  *clock = clock_of(*core::tls::tid(t->storage.pointer));
  return 0;
}

void clocks_lose_thread(thread& t) noexcept {
  if (!t.clock_is_known) return;
  clocks_guard guard;
  for (thread** at = &known; *at; at = &(*at)->next_known_clock) {
    if (*at == &t) return void(*at = t.next_known_clock);
  }
}

void clocks_are_not_inherited() noexcept {
  new (&living_clocks) core::spin_lock;
  known = this_thread && this_thread->clock_is_known ? this_thread : nullptr;
  if (known) known->next_known_clock = nullptr;
}

// Only the thread's time is known separately. It is divided into user and system time in the kernel
// thread's proportion, so that neither runs backwards. All other values are the kernel thread's.
int getrusage(int who, rusage* usage) {
  thread* t = who == RUSAGE_THREAD && core::current && in_hubs_process() ? this_thread : nullptr;
  int r = real.getrusage(who, usage);
  if (r < 0 || !t) return r;
  core::nanoseconds user = nanoseconds_of(usage->ru_utime),
                    system = nanoseconds_of(usage->ru_stime);
  core::nanoseconds mine = cpu_time(*t->runs->storage);
  double systems = user + system > 0 ? double(system) / double(user + system) : 0;
  system = std::max(core::nanoseconds(double(mine) * systems), t->system_time);
  user = std::max(mine - system, t->user_time);
  t->user_time = user;
  t->system_time = mine - user;
  usage->ru_utime = timeval_of(t->user_time);
  usage->ru_stime = timeval_of(t->system_time);
  return 0;
}

}  // namespace tendril::posix
