// Makes calls on a helper thread while the fiber is parked.
#pragma once

#include <errno.h>
#include <stdlib.h>

#include <new>
#include <utility>

#include "posix/common/cooperate.hpp"
#include "scheduler/helper_pool.hpp"

namespace tendril::posix {

// Whether signal handlers are deferred until the call has ended.
enum class handlers { later, meanwhile };

// A core::handlers_deferred for code that may start a helper thread. Starting one allocates memory
// and takes the loader's lock in the C library; the kernel thread would deadlock if a thread of
// this hub had been preempted inside the allocator or the loader.
class helper_may_be_made {
 public:
  helper_may_be_made() noexcept {
    for (int tries = 0;; tries++) {
      hub& h = my_hub();
      unsigned turns = h.turns.so_far();
      // Larger than what the allocator caches per thread, so it takes the allocator's lock. Waiting
      // for the lock here is safe: this thread can be preempted.
      void* volatile probe = h.several_threads ? malloc(2048) : nullptr;
      free(probe);
      core::current->enter_runtime();
      // (Give up after 100 tries: it may be this thread's own handler that interrupted the loader.)
      bool loads = core::tls::amid_loader.load(std::memory_order_relaxed) != 0 && tries < 100;
      if (h.turns.so_far() == turns && !loads) return;
      core::current->leave_runtime();
      if (loads) core::yield();
    }
  }
  ~helper_may_be_made() { core::current->leave_runtime(); }
  helper_may_be_made(const helper_may_be_made&) = delete;
};

// A call of f() on a helper thread, made by the running fiber. The object must live until the call
// is done.
template <class F>
class helper_call : core::helper_job {
 public:
  explicit helper_call(F f) noexcept : call_(static_cast<F&&>(f)) {
    run = [](core::helper_job& base) noexcept {
      helper_call& self = static_cast<helper_call&>(base);
      self.value = self.call_();
    };
  }
  helper_call(const helper_call&) = delete;

  void start() noexcept {
    helper_may_be_made quiet;
    core::start_on_helper(*this);
  }
  // Waits until the call is done: 0. With `killable`: -ECANCELED if the fiber is killed or
  // cancelled before.
  int wait(handlers when, bool killable) noexcept {
    core::wait_info what;
    what.kind = core::wait_kind::helper;
    what.wakeable_by_system = true;
    what.uninterruptible = !killable;
    what.interruptible = when == handlers::meanwhile;
    int saved = errno, r = 0;
    {
      core::handlers_deferred quiet;
      while (!done() && r == 0) {
        switch (killable && cancel_due() ? core::wake::interrupted : core::park(INT64_MAX, what)) {
          case core::wake::signal:
            my_hub().signals.run_handlers();
            break;
          case core::wake::interrupted:
            if (killable) r = -ECANCELED;
            break;
          default:
            break;
        }
      }
    }
    errno = saved;
    return r;
  }
  using core::helper_job::done;

  decltype(std::declval<F&>()()) value{};

 private:
  F call_;
};

// Calls f() on a helper thread and waits until it is done, in any case: for calls that end soon and
// work on the caller's memory. Handlers run afterwards, as in the kernel's own uninterruptible
// waits (for a disk); with handlers::meanwhile they run during the call, for calls that wait in
// user space (name look-ups). Returns f's result; if errno is wanted, f must pass it on itself.
template <class F>
auto offload(F f, handlers when = handlers::later) noexcept {
  if (!in_hubs_process()) return f();
  helper_call<F&> call(f);
  call.start();
  call.wait(when, false);
  return call.value;
}

// For system calls that may take arbitrarily long. f() makes the call (raw, interruptible) on a
// helper thread. If a signal handler must run, or the fiber is killed, the system call is
// interrupted, so that nothing remains of it: no thread, and no lock that is acquired too late.
// Returns f's result, -EINTR as `rule` says, or -ECANCELED if `killable`.
template <class F>
long offload_interruptible(F f, on_signal rule = on_signal::restart,
                           bool killable = true) noexcept {
  if (!in_hubs_process()) return f();
  struct job : core::helper_job {
    F* call = nullptr;
    long value = -EINTR;
  };
  core::wait_info what;
  what.kind = core::wait_kind::helper;
  what.wakeable_by_system = what.interruptible = true;
  what.uninterruptible = !killable;
  int saved = errno;
  for (;;) {
    job j;
    j.call = &f;
    j.interruptible = true;
    j.run = [](core::helper_job& base) noexcept {
      job& self = static_cast<job&>(base);
      do self.value = (*self.call)();
      while (self.value == -EINTR && !self.stop.load(std::memory_order_relaxed));
    };
    core::wake why = core::wake::signal;
    {
      helper_may_be_made quiet;
      if (interrupted(rule)) return -EINTR;
      core::start_on_helper(j);
      do why = core::park(INT64_MAX, what);
      while (!j.done() && why == core::wake::unparked);
      if (!j.done()) core::stop_on_helper(j);
    }
    errno = saved;
    if (j.value != -EINTR) return j.value;
    if (why == core::wake::interrupted) return -ECANCELED;
  }
}

// For calls that may take long and cannot be interrupted. `Call` (movable, owns what it works on)
// has run(), which a helper thread calls. If the fiber is killed, the call is left to the helper,
// which calls undo() after run() and destroys it. Returns -ECANCELED then, 0 otherwise; -ENOMEM.
// `out` gets the call back.
template <class Call>
int offload_abandonable(Call& out) noexcept {
  if (!in_hubs_process()) return out.run(), 0;
  struct job : core::helper_job {
    Call call;
    explicit job(Call&& c) noexcept : call(std::move(c)) {}
  };
  void* memory = malloc(sizeof(job));
  if (!memory) return -ENOMEM;
  job* j = new (memory) job(std::move(out));
  j->run = [](core::helper_job& base) noexcept { static_cast<job&>(base).call.run(); };
  j->abandon = [](core::helper_job& base) noexcept {
    job& self = static_cast<job&>(base);
    self.call.undo();
    self.~job();
    free(&self);
  };
  core::wait_info what;
  what.kind = core::wait_kind::helper;
  what.wakeable_by_system = what.interruptible = true;
  int saved = errno;
  bool left = false;
  {
    helper_may_be_made quiet;
    core::start_on_helper(*j);
    while (!left && !j->done()) {  // left: *j may be gone
      switch (core::park(INT64_MAX, what)) {
        case core::wake::signal:
          my_hub().signals.run_handlers();
          break;
        case core::wake::interrupted:
          left = core::leave_to_helper(*j);
          break;
        default:
          break;
      }
    }
  }
  errno = saved;
  if (left) return -ECANCELED;
  out = std::move(j->call);
  j->~job();
  free(j);
  return 0;
}

}  // namespace tendril::posix
