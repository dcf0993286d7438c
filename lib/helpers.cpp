#include "helpers.hpp"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include <new>

#include "futex_lock.hpp"
#include "hub.hpp"
#include "posix/real.hpp"

namespace tendril::core {

namespace {

constexpr nanoseconds idle_time = 10'000'000'000;

// The jobs that wait for a helper, and the helpers that wait for a job.
struct pool {
  futex_lock lock;
  helper_job* first = nullptr;
  helper_job* last = nullptr;
  int queued = 0;
  int idle = 0;
  int threads = 0;
  bool complained = false;
  std::atomic<std::uint32_t> arrivals{0};  // futex: changes with every job
};
constinit pool helpers;

void finish(helper_job* job) noexcept {
  fiber* who = job->who;  // read first: from the exchange on the job may be gone
  fiber_home* home = who->home;
  auto* abandon = job->abandon;
  int expected = 0;
  if (job->state.compare_exchange_strong(expected, 1, std::memory_order_acq_rel)) unpark(who);
  else abandon(*job);
  // The references that run_on_helper took: the fiber may have ended since.
  if (who != &home->main) fiber_unref(who);
  leave_home(home);
}

void* helper_thread(void*) {
  helpers.lock.lock();
  for (;;) {
    if (helper_job* job = helpers.first) {
      helpers.first = job->next;
      if (!helpers.first) helpers.last = nullptr;
      helpers.queued--;
      helpers.lock.unlock();
      job->run(*job);
      finish(job);
      helpers.lock.lock();
      continue;
    }
    std::uint32_t seen = helpers.arrivals.load(std::memory_order_relaxed);
    helpers.idle++;
    helpers.lock.unlock();
    timespec wait{.tv_sec = idle_time / 1'000'000'000, .tv_nsec = 0};
    int r = sys::futex_wait(&helpers.arrivals, seen, &wait);
    helpers.lock.lock();
    helpers.idle--;
    if (r == -ETIMEDOUT && !helpers.first) break;
  }
  helpers.threads--;
  helpers.lock.unlock();
  return nullptr;
}

bool start_thread() noexcept {
  // Signal handlers are the program's and run on its own threads.
  std::uint64_t all = ~0ULL, old;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t t;
  int r = posix::real.pthread_create(&t, &attributes, helper_thread, nullptr);
  pthread_attr_destroy(&attributes);
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &old, 0, 8);
  return r == 0;
}

void child_of_fork() noexcept { new (&helpers) pool; }

void register_fork_handler() noexcept {
  static std::atomic<bool> done{false};
  if (!done.exchange(true)) pthread_atfork(nullptr, nullptr, child_of_fork);
}

// False when there is no helper, and none can be made.
bool submit(helper_job& job) noexcept {
  register_fork_handler();
  bool more, say = false;
  {
    futex_guard guard(helpers.lock);
    more = helpers.queued >= helpers.idle;
    if (more) helpers.threads++;
  }
  if (more && !start_thread()) {
    futex_guard guard(helpers.lock);
    helpers.threads--;
    if (helpers.threads == 0) return false;
    say = !helpers.complained;
    helpers.complained = true;
  }
  if (say) sys::say("no more helper threads can be made: calls that need one wait for the others");
  {
    futex_guard guard(helpers.lock);
    job.next = nullptr;
    (helpers.last ? helpers.last->next : helpers.first) = &job;
    helpers.last = &job;
    helpers.queued++;
    helpers.arrivals.fetch_add(1, std::memory_order_relaxed);
  }
  sys::futex_wake(&helpers.arrivals, 1);
  return true;
}

}  // namespace

void start_on_helper(helper_job& job) noexcept {
  fiber* self = ensure_current();
  job.who = self;
  fiber_ref(self);
  self->home->users.fetch_add(1, std::memory_order_relaxed);
  if (submit(job)) return;
  fiber_unref(self);
  leave_home(self->home);
  job.run(job);
  job.state = 1;
}

wake wait_for_helper(helper_job& job, bool abandonable) noexcept {
  wait_info what;
  what.kind = wait_kind::helper;
  what.remote = true;
  what.interruptible = abandonable;
  what.uninterruptible = !abandonable;
  while (job.state.load(std::memory_order_acquire) == 0) {
    wake w = park(INT64_MAX, what);
    if (w != wake::unparked && abandonable) return w;
  }
  return wake::unparked;
}

bool leave_to_helper(helper_job& job) noexcept {
  int expected = 0;
  return job.state.compare_exchange_strong(expected, 2, std::memory_order_acq_rel);
}

}  // namespace tendril::core
