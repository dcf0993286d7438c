#include "scheduler/hub.hpp"

#include <stdlib.h>

#include <new>
#include <utility>

#include "fiber/switch.hpp"
#include "scheduler/kernel_threads.hpp"

namespace tendril::core {

hub::hub(const hub_calls& for_fibers, poller::hub_part for_poller) noexcept
    : io(for_poller),
      signals(*this, {wake, [](fiber_home& h) noexcept { static_cast<hub&>(h).notify(); },
                      [](fiber_home& h) noexcept { static_cast<hub&>(h).tick.send(h); }}) {
  calls = &for_fibers;
}

void hub::wake(fiber* f, core::wake why) noexcept {
  if (f->state != fiber_status::parked) return;
  bool deep = why == wake::timeout || f->waiting->kind == wait_kind::descriptor ||
              f->waiting->kind == wait_kind::descriptors;
  make_ready(f, why, deep);
}

void hub::wake_at(fiber* f, nanoseconds when, bool precise) noexcept {
  if (timers.empty()) seen_ = now();
  if (!timers.start(f, when, precise, seen_)) sys::die("no memory for a timer");
}

bool hub::begin_thread(fiber* f) noexcept {
  if (!start(f)) return false;
  f->movable = true;  // until it runs first
  masks.add(f->storage->signals.mask);
  return true;
}

bool hub::receive(fiber* f) noexcept {
  if (!remote_queue::claim(f)) return false;
  hub& from = *of(f);
  from.living--;
  if (f->started) {
    if (f->timer) from.timers.cancel(f);
    f->unlink();
    from.unfinished--;
    from.masks.remove(f->storage->signals.mask);
  }
  f->in_transit = true;
  holds.fetch_add(1, std::memory_order_relaxed);
  // Who finds its own home there sees the rest.
  atomic_ref(f->home).store(this, std::memory_order_release);
  remote.push(f);
  return true;
}

bool hub::adopt(fiber* f) noexcept {
  deferring_spin_guard held(adopting_);
  if (!adopts_) return false;
  f->storage = nullptr;  // the mark of such a task while it is in transit
  atomic_ref(f->home).store(this, std::memory_order_release);
  remote_queue::claim(f);
  remote.push(f);
  notify();
  return true;
}

void hub::adopt_no_more() noexcept {
  {
    deferring_spin_guard held(adopting_);
    adopts_ = false;
  }
  handlers_deferred quiet;
  remote.drain([this](fiber* f) { take_in(f); });
}

// Begins a task of the C++ API that this hub has adopted. False: no memory.
bool hub::begin_adopted(fiber* f) noexcept {
  f->storage = main.storage;
  share_exceptions(f, &main);
  if (start(f)) return true;
  f->storage = nullptr;
  return false;
}

// Begins a thread on its way here, or goes on with it. False: no memory.
bool hub::take_over(fiber* f) noexcept {
  if (!f->started) return begin_thread(f);
  if (!make_room(this)) return false;
  // Whatever was to end the wait: it is over.
  f->ends_wait.store(false, std::memory_order_relaxed);
  fibers.push_back(*f);
  unfinished++;
  masks.add(f->storage->signals.mask);
  f->storage->moved_at = now();
  ready.push(f, true);
  return true;
}

// What comes out of the remote queue: a fiber that another kernel thread has woken, or a thread
// that runs here from now on.
void hub::take_in(fiber* f) noexcept {
  if (!f->in_transit) [[likely]] {
    bool ends = f->ends_wait.load(std::memory_order_relaxed) &&
                f->ends_wait.exchange(false, std::memory_order_acquire) && may_end_wait(f);
    return wake(f, ends ? wake::interrupted : wake::unparked);
  }
  bool begins = !f->started;
  f->in_transit = false;
  living++;
  bool adopted = !f->storage;
  if (adopted ? begin_adopted(f) : take_over(f)) {
    if (!adopted) holds.fetch_sub(1, std::memory_order_relaxed);
    if (begins) fiber_unref(f);
    return;
  }
  // No memory: try again at the next poll. Other threads may have ended by then.
  living--;
  f->in_transit = true;
  if (remote_queue::claim(f)) remote.push(f);
}

// Whether the fiber can go on as well on another hub: it is a thread, and nothing of it is attached
// to this one, nor to its kernel thread.
bool hub::may_go(const fiber* f) const noexcept {
  const thread_storage& t = *f->storage;
  const signal_state& s = t.signals;
  return &t != &storage && s.owner == f && !s.gone && !s.depth && !s.unsure && !s.masked &&
         !s.child_signal_blocks && !t.bound.load(std::memory_order_relaxed);
}

bool hub::move_to(hub& to) noexcept {
  fiber* self = current;
  hub& h = *of(self);
  if (&h == &to) return true;
  if (self->runtime_depth || h.has_own_fibers || h.vfork_children || !h.may_go(self)) return false;
  handlers_deferred quiet;
  // As when a thread ends: the hub must not poll on the stack that is to be left.
  if (h.ready.empty()) wake(&h.main, core::wake::unparked);
  if (h.ready.empty()) return false;
  self->state = fiber_status::ready;
  self->departs = true;
  h.departs_to_ = &to;
  switch_to(self, h.next());
  if (self->home->to_reap) reap();
  return true;
}

void hub::depart(fiber* f) noexcept {
  f->departs = false;
  hub& to = *std::exchange(of(f)->departs_to_, nullptr);
  while (!to.receive(f)) arch::relax();  // another thread is about to unpark it
  to.notify();
}

unsigned hub::give(hub& to, unsigned most) noexcept {
  constexpr nanoseconds stays = 10'000'000;
  nanoseconds t = now();
  unsigned given = 0;
  ready.take_newest([&](fiber* f) {
    bool settles = t - f->storage->moved_at < stays && !chaos;
    bool may = f->movable && f != current && f != yielded_to_handler && !settles && may_go(f);
    if (given == most || !may || !to.receive(f)) return false;
    given++;
    return true;
  });
  if (given) to.notify();
  return given;
}

void hub::share_if_crowded(bool tick) noexcept {
  constexpr unsigned patience = 3;  // tenths of a millisecond
  if (!share || ready.empty()) return;
  std::uint64_t t = arch::ticks();
  if (crowded_ == 0) crowded_ = t;
  if (!tick && t - crowded_ < patience * arch::ticks_per_tenth_ms()) return;
  crowded_ = t;
  if (!has_own_fibers && vfork_children == 0) share(*this, tick);
}

void hub::refill_run_queue() noexcept {
  if (turns.polls() && may_find_something()) poll_events_if_due();
  if (!remote.empty()) [[unlikely]]
    remote.drain([this](fiber* f) { take_in(f); });
  if (chaos) [[unlikely]] {
    turns.poll_next();
    if (!has_own_fibers && vfork_children == 0) share(*this, false);
  } else if (share) [[unlikely]] {
    ready.empty() ? void(crowded_ = 0) : share_if_crowded(false);
  }
  while (ready.empty()) poll_events(true);
}

// Whether poll_events_if_due() has anything to look for: reading the clock alone takes as long as a
// few turns.
bool hub::may_find_something() const noexcept {
  return io.has_waiters() || !timers.empty() || signals.has_arrivals() || masks.differ();
}

void hub::poll_events_if_due() noexcept {
  std::uint64_t t = arch::ticks();
  if (t - looked_ < arch::ticks_per_tenth_ms()) return;
  looked_ = t;
  poll_events(false);
  if (masks.differ()) [[unlikely]]
    signals.let_masked_signals_in();
}

void hub::out_of_budget() noexcept {
  turns.renew_budget();
  if (!in_own_process()) return;  // a vfork child, which must not run our fibers
  handlers_deferred quiet;
  poll_events_if_due();
  if (!ready.empty()) yield();
}

void hub::poll_events(bool block) noexcept {
  if (block) {
    if (is_deadlocked()) return deadlock();
    // From here on another thread that pushes to the remote queue notifies us, for which the poller
    // must be open.
    io.open();
    sleeping_.store(true, std::memory_order_seq_cst);
    if (!remote.empty() || closed_elsewhere_.load() || signals.has_arrivals()) block = false;
    else if (observer) block = observer->before(*observer);
  }
  bool observed = block && observer;
  // A program that never sleeps returns memory to the system, too.
  bool trims = (++looks_ & 63) == 0;
  nanoseconds t = block || trims || !timers.empty() ? now() : 0;
  nanoseconds trim_next = block || trims ? trim.run(*this, t) : INT64_MAX;
  if (block) {
    deadline until{timers.next()};
    if (trim_next < until.at) until.at = trim_next;
    timespec wait{}, *timeout = nullptr;
    if (!until.is_never()) {
      nanoseconds left = until.at > t ? until.at - t : 0;
      // The kernel may wake us late by a thousandth of the time-out (at most 0.1 s), and by 50 us
      // in any case. If the former is more, wait that much less.
      nanoseconds slack = left / 1001 < 100'000'000 ? left / 1001 : 100'000'000;
      if (slack > 50'000) left -= slack;
      wait = {.tv_sec = left / 1'000'000'000, .tv_nsec = left % 1'000'000'000};
      timeout = &wait;
    }
    signal_state& mine = current->storage->signals;
    // The fiber that polls has not been switched away from, where the mask is looked up again.
    if (mine.unsure && several_threads) {
      signals.own_mask();
      mine.unsure = mine.depth > 0;
    }
    std::uint64_t asleep = masks.intersection() & ~runtime_signal::bit;
    io.poll(timeout, several_threads && (asleep != mine.mask || mine.unsure) ? &asleep : nullptr);
    t = now();
  } else if (io.has_waiters()) {
    timespec none{};
    io.poll(&none);
  }
  sleeping_.store(false, std::memory_order_relaxed);
  if (observed) observer->after(*observer);
  if (!timers.empty()) {
    seen_ = t;
    timers.run(t, [](fiber* f) { wake(f, wake::timeout); });
  }
  if (!remote.empty()) remote.drain([this](fiber* f) { take_in(f); });
  if (closed_elsewhere_.load(std::memory_order_relaxed) && closed_elsewhere_.exchange(false) &&
      io.has_waiters()) {
    io.wake_all_closed();
  }
  if (signals.has_arrivals()) {
    signals.sort_arrivals();
    signals.run_handlers_of_main();
  }
}

// Whether the signal was sent by notify(), to end a wait that nothing else can end.
bool hub::takes_nudge(siginfo_t*, void*) noexcept {
  return current && of(current)->nudged_.exchange(false);
}

void hub::notify() noexcept {
  if (!sleeping_.exchange(false, std::memory_order_seq_cst) || io.interrupt()) return;
  // In a handler on the hub's own thread: the hub's system call has ended anyway.
  if (current && of(current) == this) return;
  nudged_ = true;
  if (runtime_signal::install(takes_nudge)) sys::call(SYS_tgkill, pid, tid, runtime_signal::number);
}

void hub::note_many_closed() noexcept {
  closed_elsewhere_.store(true);
  notify();
}

void hub::note_closed(int fd) noexcept {
  closed_elsewhere_.store(true);
  // A hub that is about to sleep finds the flag, with all who began to wait before it sleeps. One
  // that is seen to sleep is seen with its waiters.
  if (sleeping_.load() && io.is_waited_for(fd)) notify();
}

// Whether nothing can ever make a fiber of this hub runnable.
bool hub::is_deadlocked() const noexcept {
  return timers.empty() && !io.has_waiters() && waits.by_system == 0 && remote.empty() &&
         !signals.has_arrivals() && (waits.by_threads == 0 || known_threads.is_alone());
}

// No fiber can run, and nothing that this hub knows of can change that.
void hub::deadlock() noexcept {
  fiber* victim = nullptr;
  if (main.state == fiber_status::parked) {
    victim = &main;
  } else {
    for (fiber* f = fibers.front(); f; f = fibers.after(*f)) {
      if (f->state == fiber_status::parked) victim = f;
    }
  }
  if (!victim) {
    // In a forked child whose main fiber is the parent's: its last fiber has ended, and the process
    // ends as with its last thread.
    if (main.lost) exit(0);
    sys::die(
        "no fiber can run: the main fiber waits in a switch for one that has ended or waits for "
        "ever");
  }
  wake(victim, wake::deadlock);
}

void hub::belongs_to_parent() noexcept {
  new (&adopting_) spin_lock;
  adopts_ = false;
}

void hub::after_fork() noexcept {
  tid = sys::gettid();
  pid = sys::getpid();
  io.after_fork();
  timers.clear();
  ready.clear();
  remote.clear();
  waits = {};
  current->runtime_depth = 0;
  tick.sent = tick.on_its_way = is_asked = false;
  holds = 0;
  cpu.counted = current->storage->cpu_time = 0;
  signals.after_fork();
  yielded_to_handler = nullptr;
  observer = nullptr;
  new (&adopting_) spin_lock;
  for (fiber* f = fibers.front(); f;) {
    fiber* next = fibers.after(*f);
    f->in_remote_queue = false;
    if (f->state == fiber_status::parked || f->state == fiber_status::ready) {
      f->lost = true;
      f->state = fiber_status::finished;
      if (f != &main) {
        f->unlink();
        unfinished--;
      }
    }
    f = next;
  }
  native_threads = main.lost ? 0 : 1;
}

}  // namespace tendril::core
