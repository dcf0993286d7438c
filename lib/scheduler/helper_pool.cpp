#include "scheduler/helper_pool.hpp"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <ucontext.h>

#include <new>

#include "base/futex_lock.hpp"
#include "base/runtime_signal.hpp"
#include "libc/real.hpp"
#include "scheduler/home.hpp"
#include "scheduler/kernel_threads.hpp"

namespace tendril::core {

namespace {

constexpr nanoseconds idle_time = 10'000'000'000;

// The jobs that wait for a helper, and the number of helpers that wait for a job.
struct pool {
  futex_lock lock;
  helper_job* first = nullptr;
  helper_job* last = nullptr;
  int queued = 0;
  int idle = 0;
  bool complained = false;
  bool unwanted = false;                   // helpers end instead of waiting, until the next job
  std::atomic<std::uint32_t> arrivals{0};  // futex: changes with every job

  void push(helper_job& job) noexcept {
    job.next = nullptr;
    (last ? last->next : first) = &job;
    last = &job;
    queued++;
  }
  helper_job* pop() noexcept {
    helper_job* job = first;
    if (!job) return nullptr;
    first = job->next;
    if (!first) last = nullptr;
    queued--;
    return job;
  }
  bool take_back(helper_job& job) noexcept {
    helper_job* before = nullptr;
    for (helper_job* j = first; j; before = j, j = j->next) {
      if (j != &job) continue;
      (before ? before->next : first) = j->next;
      if (last == j) last = before;
      queued--;
      return true;
    }
    return false;
  }
};
constinit pool helpers;

// Drops the job's references to its fiber and to the fiber's home. Both may have ended meanwhile.
void let_go(fiber* who) noexcept {
  fiber_home* home = who->home;
  if (who != &home->main) fiber_unref(who);
  leave_home(home);
}

// --- the signal that interrupts a helper ---

__thread bool is_helper __attribute__((tls_model("initial-exec"))) = false;

// The helper unblocks the signal only around an interruptible call. Our handler has SA_RESTART (the
// tick needs it), so the kernel would restart that call: makes it fail with EINTR instead, even if
// it has not begun yet.
bool stop(siginfo_t*, void* where) noexcept {
  if (!is_helper) return false;
  arch::end_system_call(*static_cast<ucontext_t*>(where), EINTR);
  return true;
}

// Calls f() with that identity. Null: with the common one, which helpers have between jobs.
template <class F>
void run_as(const identity* as, F f) noexcept {
  identity* before = as ? own_identity() : nullptr;
  if (as && (!before || !take_on(*before, *as))) cannot_be_undone();
  f();
  if (as) take_on(*as, *before);  // if it fails, the next job takes on its own anyway
  free(before);
}

void run_job(helper_job& job) noexcept {
  if (!job.interruptible || !runtime_signal::install(stop)) return job.run(job);
  std::uint64_t set = runtime_signal::bit;
  job.tid.store(sys::gettid(), std::memory_order_release);
  sys::call(SYS_rt_sigprocmask, SIG_UNBLOCK, &set, 0, 8);
  job.run(job);
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, &set, 0, 8);
}

void run(helper_job& job) noexcept {
  run_as(job.as, [&] { run_job(job); });
}

void work_on(helper_job* job) noexcept {
  fiber* who = job->who;  // read first: after the last exchange the job may be gone
  auto* abandon = job->abandon;
  int expected = helper_job::queued;
  if (job->state.compare_exchange_strong(expected, helper_job::running,
                                         std::memory_order_acq_rel)) {
    run(*job);
    expected = helper_job::running;
    if (job->state.compare_exchange_strong(expected, helper_job::ended,
                                           std::memory_order_acq_rel)) {
      unpark(who);
      return let_go(who);
    }
  }
  abandon(*job);
  let_go(who);
}

void* helper_thread(void*) {
  is_helper = true;
  helpers.lock.lock();
  for (;;) {
    if (helper_job* job = helpers.pop()) {
      helpers.lock.unlock();
      work_on(job);
      helpers.lock.lock();
      continue;
    }
    if (helpers.unwanted) break;
    std::uint32_t seen = helpers.arrivals.load(std::memory_order_relaxed);
    helpers.idle++;
    helpers.lock.unlock();
    timespec wait{.tv_sec = idle_time / 1'000'000'000, .tv_nsec = 0};
    int r = sys::futex_wait(&helpers.arrivals, seen, &wait);
    helpers.lock.lock();
    helpers.idle--;
    if ((r == -ETIMEDOUT || helpers.unwanted) && !helpers.first) break;
  }
  known_threads.helpers--;
  helpers.lock.unlock();
  return nullptr;
}

// Returns false if there is no helper, and none can be made.
bool submit(helper_job& job) noexcept {
  bool more;
  {
    // Under one lock, so that two callers do not count on the same idle helper.
    futex_guard guard(helpers.lock);
    helpers.push(job);
    helpers.unwanted = false;
    helpers.arrivals.fetch_add(1, std::memory_order_relaxed);
    more = helpers.queued > helpers.idle;
    if (more) known_threads.helpers++;
  }
  if (!more) {
    sys::futex_wake(&helpers.arrivals, 1);
    return true;
  }
  if (start_own_thread(helper_thread, nullptr)) return true;
  bool say;
  {
    futex_guard guard(helpers.lock);
    known_threads.helpers--;
    if (known_threads.helpers == 0 && helpers.take_back(job)) return false;
    say = !helpers.complained;
    helpers.complained = true;
  }
  if (say) sys::say("no more helper threads can be made: calls that need one wait for the others");
  return true;
}

}  // namespace

// Creates a kernel thread that blocks all signals. Returns an error number.
static int create(pthread_t& t, int detach_state, std::size_t stack_size, void* (*run)(void*),
                  void* argument) noexcept {
  // Do both now: with two kernel threads each would take the kernel milliseconds.
  barrier_available();
  if (current) hub::of(current)->io.open();
  // Block all signals but the one by which the C library's setuid() and its kin reach every thread.
  constexpr std::uint64_t identity = 1ULL << 32;
  std::uint64_t others = ~identity, old;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &others, &old, 8);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, detach_state);
  if (stack_size) pthread_attr_setstacksize(&attributes, stack_size);
  int r = posix::real.pthread_create(&t, &attributes, run, argument);
  pthread_attr_destroy(&attributes);
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &old, 0, 8);
  return r;
}

bool start_own_thread(void* (*run)(void*), void* argument, std::size_t stack_size) noexcept {
  pthread_t t;
  return create(t, PTHREAD_CREATE_DETACHED, stack_size, run, argument) == 0;
}

int start_kernel_thread(unsigned long& id, void* (*run)(void*), void* argument) noexcept {
  return create(id, PTHREAD_CREATE_JOINABLE, 0, run, argument);
}
void join_kernel_thread(unsigned long id) noexcept { posix::real.pthread_join(id, nullptr); }
void detach_kernel_thread(unsigned long id) noexcept { posix::real.pthread_detach(id); }

void end_idle_helpers() noexcept {
  futex_guard guard(helpers.lock);
  helpers.unwanted = true;
  helpers.arrivals.fetch_add(1, std::memory_order_relaxed);
  sys::futex_wake(&helpers.arrivals, INT32_MAX);
}

void start_on_helper(helper_job& job) noexcept {
  fiber* self = ensure_current();
  job.who = self;
  if (switches_carry_any(identities)) {
    const identity* as = self->storage->identity ? self->storage->identity : common_identity;
    if (!(job.as = copy_of(*as))) cannot_be_undone();
  }
  fiber_ref(self);
  self->home->users.fetch_add(1, std::memory_order_relaxed);
  if (submit(job)) return;
  fiber_unref(self);
  leave_home(self->home);
  job.run(job);
  job.state = helper_job::ended;
}

void stop_on_helper(helper_job& job) noexcept {
  bool mine;
  {
    futex_guard guard(helpers.lock);
    mine = helpers.take_back(job);
  }
  if (mine) return let_go(job.who);
  job.stop.store(true, std::memory_order_relaxed);
  // Repeat it, since the signal may arrive just before the system call, or find that the C library
  // has installed its handler again.
  timespec pause{.tv_sec = 0, .tv_nsec = 20'000};
  while (!job.done()) {
    int tid = job.tid.load(std::memory_order_acquire);
    if (tid && runtime_signal::install(stop))
      sys::call(SYS_tgkill, sys::getpid(), tid, runtime_signal::number);
    int state = job.state.load(std::memory_order_acquire);
    if (state != helper_job::ended) sys::futex_wait(&job.state, std::uint32_t(state), &pause);
    if (pause.tv_nsec < 5'000'000) pause.tv_nsec *= 2;
  }
}

bool leave_to_helper(helper_job& job) noexcept {
  int now = helper_job::queued;
  while (now != helper_job::ended) {
    if (job.state.compare_exchange_strong(now, helper_job::left, std::memory_order_acq_rel))
      return true;
  }
  return false;
}

void helpers_after_fork() noexcept {
  new (&helpers) pool;
  known_threads.helpers = 0;
}

}  // namespace tendril::core
