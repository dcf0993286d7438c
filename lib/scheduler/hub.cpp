#include "scheduler/hub.hpp"

#include <stdlib.h>

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
  masks.add(f->storage->signals.mask);
  return true;
}

void hub::receive(fiber* f) noexcept {
  f->home = this;
  remote.push(f);
  notify();
}

// What comes out of the remote queue: a fiber that another kernel thread has woken, or a task that
// begins here.
void hub::take_in(fiber* f) noexcept {
  if (!f->in_transit) [[likely]] {
    bool ends = f->ends_wait.load(std::memory_order_relaxed) &&
                f->ends_wait.exchange(false, std::memory_order_acquire) && may_end_wait(f);
    return wake(f, ends ? wake::interrupted : wake::unparked);
  }
  f->in_transit = false;
  living++;
  if (begin_thread(f)) {
    holds.fetch_sub(1, std::memory_order_relaxed);
    return fiber_unref(f);
  }
  // No memory: try again at the next poll. Other threads may have ended by then.
  living--;
  f->in_transit = true;
  remote.push(f);
}

void hub::refill_run_queue() noexcept {
  if (turns.polls() && may_find_something()) poll_events_if_due();
  if (!remote.empty()) [[unlikely]]
    remote.drain([this](fiber* f) { take_in(f); });
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
  }
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
