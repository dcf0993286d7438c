#include "posix/threads/preempt.hpp"

#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#include <algorithm>

#include "base/runtime_signal.hpp"
#include "fiber/cpu_time.hpp"
#include "posix/threads/interruption.hpp"
#include "posix/threads/thread.hpp"
#include "scheduler/crew.hpp"
#include "scheduler/helper_pool.hpp"

extern "C" {
// The bounds of this library's code.
extern const char __ehdr_start __attribute__((visibility("hidden")));
extern const char etext __attribute__((visibility("hidden")));
}

namespace tendril::posix {

namespace {

constexpr core::nanoseconds longest_tick = 10'000'000;
constexpr core::nanoseconds shortest_tick = 500'000;
constexpr core::nanoseconds idle_tick = 250'000'000;
// One tick in so many comes even if threads yield by themselves: they may always yield while they
// hold something that the others want, and release it only in between.
constexpr unsigned lockstep_ticks = 8;

constinit std::atomic<bool> watching{false};
constinit std::atomic<std::uint32_t> naps_long{0};  // whether the watcher naps for long; a futex
constexpr unsigned most_unanswered = 100;           // then other code has consumed it (sigwait)

// Lets another fiber run. False: there was no switch, and the tick is over.
bool take_away(ucontext_t& where) noexcept {
  fiber* self = core::current;
  if (!self || !this_thread || this_thread->runs != self) return false;
  hub& h = *hub::of(self);
  const char* at = reinterpret_cast<const char*>(arch::program_counter(where));
  if (self->runtime_depth || self->state != core::fiber_status::running ||
      (at >= &__ehdr_start && at < &etext)) {
    tick_missed.store(true, std::memory_order_relaxed);
    return false;
  }
  if (handler_stays(self, arch::interrupted_stack(where)) || !in_hubs_process()) return false;
  // While a program's handler is entered or left, in the C library's code, the kernel's mask is not
  // the one that we know. (If it stays different, the C library has changed it itself, as
  // siglongjmp does.)
  core::signal_state& signals = self->storage->signals;
  if (!signals.unsure && core::mask_of(where.uc_sigmask) != signals.mask) {
    signals.unsure = true;
    tick_missed.store(true, std::memory_order_relaxed);
    return false;
  }
  interruption interrupted(where);
  if (interrupted.failed()) return false;
  bool gave_way = false;
  core::count_cpu_time(*self->storage, *self->storage, h);
  h.poll_events_if_due();
  h.share_if_crowded(true);
  if (!h.ready.empty()) {
    h.tick.preempted.fetch_add(1, std::memory_order_relaxed);
    h.tick.sent.store(false, std::memory_order_relaxed);
    self->movable = true;
    core::yield();
    self->movable = false;
    gave_way = true;
  }
  // A compute-bound thread with asynchronous cancellation is cancelled here; it has no other point.
  if (cancels_at_once() && cancel_due()) {
    if (!gave_way) my_hub().tick.sent.store(false, std::memory_order_relaxed);
    gave_way = true;
    interrupted.act_on_cancel();
  }
  return gave_way;
}

// The C library sends the same signal to cancel kernel threads. It has no reason to send it to a
// thread with fibers.
bool on_tick(siginfo_t* info, void* where) noexcept {
  int saved = errno;
  if (info->si_code != SI_TKILL || !core::current) return false;
  core::tick_state& tick = hub::of(core::current)->tick;
  if (!tick.on_its_way.exchange(false, std::memory_order_relaxed)) return false;
  if (!take_away(*static_cast<ucontext_t*>(where)))
    tick.sent.store(false, std::memory_order_relaxed);
  errno = saved;
  return true;
}

// What the watcher remembers of a hub.
struct watched {
  unsigned turns = 0;
  unsigned preempted = 0;
  unsigned idle = 0;  // for how many looks
  unsigned busy = 0;
  unsigned unanswered = 0;
  core::nanoseconds period = longest_tick;

  bool is_idle() const noexcept { return idle > 20; }
  // Called once in a period. Sends a tick if the hub has not made a turn since.
  void look(hub& h) noexcept {
    unsigned now = h.turns.so_far();
    if (h.sleeps()) {
      // A thread of another hub may have closed this hub's descriptors: nothing else would wake it
      // then.
      if (h.io.lost_descriptors()) h.notify();
      idle++;
      period = longest_tick;
    } else if (now == turns || ++busy % lockstep_ticks == 0) {
      idle = 0;
      send_tick(h);
      // Shorten the period while ticks find other fibers to run: a thread probably spins until
      // another has run.
      unsigned done = h.tick.preempted.load(std::memory_order_relaxed);
      if (done != preempted && period > shortest_tick) period /= 2;
      preempted = done;
    } else {
      idle = 0;
      if (period < longest_tick) period += period / 8;
    }
    turns = now;
  }

 private:
  void send_tick(hub& h) noexcept {
    if (!tick_installed() || !tick_can_be_sent()) return;
    if (!h.tick.sent.load(std::memory_order_relaxed)) {
      unanswered = 0;
      h.tick.send(h);
    } else if (++unanswered == most_unanswered) {
      unanswered = 0;
      h.tick.send_again(h);
    }
  }
};

void* watcher(void*) {
  watched hubs[core::hub_crew::most];
  bool idle = false;
  core::nanoseconds period = longest_tick;
  for (;;) {
    timespec nap{.tv_sec = 0, .tv_nsec = idle ? idle_tick : period};
    naps_long = idle;
    if (!idle || living.load() > 1) sys::futex_wait(&naps_long, idle, &nap);
    // Set `ticking` before the last check of `living`: the last remaining thread either sees
    // `ticking`, or gets no tick.
    bool several = living.load() > 1;
    ticking.store(several);
    if (!several) {
      // pthread_create counts the new thread first, then checks `watching`.
      watching = false;
      if (living.load() <= 1 || watching.exchange(true)) break;
      continue;
    }
    if (living.load() <= 1) continue;
    idle = true;
    period = longest_tick;
    unsigned i = 0;
    core::crew.for_each([&](hub& h) {
      watched& w = hubs[i++];
      w.look(h);
      idle = idle && w.is_idle();
      period = std::min(period, w.period);
    });
  }
  core::end_idle_helpers();
  return nullptr;
}

}  // namespace

constinit std::atomic<bool> tick_missed{false};

void let_thread_handle(core::thread_storage& target, ucontext_t& where) noexcept {
  interruption interrupted(where);
  if (interrupted.failed()) return;
  hub& h = my_hub();
  h.signals.sort_arrivals();
  if (target.signals.due && &target != core::current->storage)
    core::yield_to_handler(h, target.signals.owner);
}

void give_way_late() noexcept {
  tick_missed.store(false, std::memory_order_relaxed);
  let_others_run();
}

bool tick_installed() noexcept { return core::runtime_signal::install(on_tick); }

bool tick_can_be_sent() noexcept { return !sys::is_refused(SYS_tgkill); }

void watcher_may_end() noexcept {
  if (naps_long.load() && naps_long.exchange(0)) sys::futex_wake(&naps_long, 1);
}

void watch() noexcept {
  if (watching.load() || watching.exchange(true)) return;
  hub& h = my_hub();
  if (tick_installed() && (h.signals.own_mask() & core::runtime_signal::bit)) {
    core::handlers_deferred quiet;
    h.signals.set_mask(h.signals.own_mask() & ~core::runtime_signal::bit);
  }
  core::signals_deferred quiet;
  if (!core::start_own_thread(watcher, nullptr, 64 * 1024)) watching = false;
}

void preemption_after_fork() noexcept {
  watching = ticking = false;
  naps_long = 0;
}

}  // namespace tendril::posix
