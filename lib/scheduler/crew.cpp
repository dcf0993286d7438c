#include "scheduler/crew.hpp"

#include <sys/prctl.h>

#include <new>

#include "base/fork_handlers.hpp"
#include "base/runtime_signal.hpp"
#include "scheduler/helper_pool.hpp"
#include "scheduler/home.hpp"
#include "scheduler/park.hpp"
#include "thread/tls.hpp"

namespace tendril::core {

constinit hub_crew crew;

void hub_crew::begin(hub& mains, unsigned hubs, std::uint64_t chaos) noexcept {
  // The process has one kernel thread now.
  poller::prepare(spares_ + 1, hubs - 1);
  deferring_spin_guard held(lock_);
  hubs_[0] = &mains;
  most_ = hubs;
  mains.signals.forward = forward;
  if (most_ > 1) {
    tls::concurrent = true;
    mains.share = share;
    mains.io.share_descriptors();
    mains.chaos = chaos_ = chaos;
  }
  size_.store(1, std::memory_order_relaxed);
  first_.store(&mains, std::memory_order_release);
}

void hub_crew::after_fork(hub* mine) noexcept {
  new (&lock_) spin_lock;
  new (&calling_) futex_lock;
  starting_ = nothing;
  dissolves_ = false;
  if (!child_shares_descriptors()) {
    for (poller::spare& s : spares_) poller::drop(s);
  }
  if (!first()) return;
  hubs_[0] = mine;
  size_.store(mine ? 1 : 0, std::memory_order_relaxed);
  first_.store(mine, std::memory_order_release);
}

bool hub_crew::give(fiber* f) noexcept {
  if (most_ == 1 || f->storage->bound.load(std::memory_order_relaxed)) [[likely]]
    return false;
  handlers_deferred quiet;
  hub* to = find_idle(*hub::of(f));
  if (!to) to = start_hub();
  if (!to) return false;
  bool given = to->receive(f);
  to->notify();
  let_go(*to);
  return given;
}

bool hub_crew::move_to_first() noexcept { return size() < 2 || hub::move_to(*first()); }

// Gives the newest half of those that wait here for a turn to a hub that sleeps.
void hub_crew::share(hub& mine, bool runs_on) noexcept {
  if (mine.chaos) [[unlikely]]
    return crew.stir(mine);
  unsigned n = unsigned(mine.ready.size());
  unsigned most = runs_on ? (n + 1) / 2 : n / 2;
  if (most == 0) return;
  hub* to = crew.find_idle(mine);
  if (!to) return;
  mine.give(*to, most);
  crew.let_go(*to);
}

// What TENDRIL_CHAOS asks for: with some probability each, a delay, a needless notify(), and a gift
// of any size to any hub.
void hub_crew::stir(hub& mine) noexcept {
  auto random = [&](unsigned n) {
    mine.chaos ^= mine.chaos << 13;
    mine.chaos ^= mine.chaos >> 7;
    mine.chaos ^= mine.chaos << 17;
    return unsigned(mine.chaos >> 32) % n;
  };
  if (random(16) == 0) {
    for (unsigned i = random(5'000); i; i--) arch::relax();
  }
  unsigned waiting = unsigned(mine.ready.size());
  if (random(4) != 0 || waiting < 2) return;
  hub* to;
  {
    deferring_spin_guard held(lock_);
    to = hubs_[random(size())];
    if (to == &mine) return;
    to->holds.fetch_add(1, std::memory_order_relaxed);
  }
  if (random(8) == 0) to->notify();
  mine.give(*to, 1 + random(waiting - 1));
  let_go(*to);
}

// Another hub that sleeps, and to which nothing is on its way; it is held for the caller. Null:
// there is none.
hub* hub_crew::find_idle(const hub& mine) noexcept {
  deferring_spin_guard held(lock_);
  dissolves_ = false;
  for (unsigned i = 0; i < size(); i++) {
    hub& to = *hubs_[i];
    if (&to == &mine || !to.sleeps() || to.holds.load(std::memory_order_relaxed)) continue;
    to.holds.fetch_add(1, std::memory_order_relaxed);
    return &to;
  }
  return nullptr;
}

// A new hub, held for the caller; null: there are enough, or none can be made.
hub* hub_crew::start_hub() noexcept {
  {
    deferring_spin_guard held(lock_);
    bool may = size() < most_ && !sys::has_filter.load(std::memory_order_relaxed);
    if (!may || starting_.load(std::memory_order_acquire) != nothing) return nullptr;
    starting_.store(starts, std::memory_order_relaxed);
  }
  bool started = start_own_thread(carry, nullptr, 64 * 1024);
  while (started && starting_.load(std::memory_order_acquire) == starts)
    sys::futex_wait(&starting_, starts);
  // Without another carrier the thread only waits longer.
  hub* h = started && starting_.load(std::memory_order_relaxed) == has_joined ? started_ : nullptr;
  starting_.store(nothing, std::memory_order_release);
  return h;
}

void hub_crew::carrier_is(std::uint32_t what) noexcept {
  starting_.store(what, std::memory_order_release);
  sys::futex_wake(&starting_, 1);
}

void hub_crew::hand_spare(poller& to) noexcept {
  for (unsigned i = 1; i < most_; i++) {
    if (spares_[i].epoll >= 0) return to.take(spares_[i]);
  }
}

// What a carrier runs: its hub's native fiber, which only waits, since the hub has no stack.
void* hub_crew::carry(void*) noexcept {
  sys::call(SYS_prctl, PR_SET_NAME, "tendril-hub");
  hub* h = make_carriers_home();
  if (h) crew.hand_spare(h->io);
  if (!h || !h->io.open()) {
    if (h) end_carriers_home(*h);
    return crew.carrier_is(has_failed), nullptr;
  }
  tls::pass_over_in_setuid(arch::thread_pointer());
  crew.join(*h);
  crew.carrier_is(has_joined);
  wait_info what;
  what.wakeable_by_system = true;
  while (!crew.leave(*h)) park(INT64_MAX, what);
  end_carriers_home(*h);
  return nullptr;
}

void hub_crew::join(hub& h) noexcept {
  h.signals.join(first()->signals);
  h.share = share;
  h.io.share_descriptors();
  h.chaos = chaos_ ^ (chaos_ ? std::uint64_t(h.tid) << 32 : 0);
  h.native_threads = 0;
  h.trim.of_threads = first()->trim.of_threads;
  h.holds = 1;
  started_ = &h;
  deferring_spin_guard held(lock_);
  unsigned i = size();
  hubs_[i] = &h;
  size_.store(i + 1, std::memory_order_release);
}

// Whether the hub, which runs its native fiber, has left the crew: no thread is on it or on its way
// to it, and none is expected.
bool hub_crew::leave(hub& h) noexcept {
  deferring_spin_guard held(lock_);
  if (!dissolves_ || h.unfinished != 0 || h.holds.load(std::memory_order_relaxed) ||
      h.signals.has_arrivals())
    return false;
  unsigned n = size(), i = 0;
  while (hubs_[i] != &h) i++;
  hubs_[i] = hubs_[n - 1];
  size_.store(n - 1, std::memory_order_relaxed);
  return true;
}

bool hub_crew::hold(hub* h) noexcept {
  if (h == first()) return h->holds.fetch_add(1, std::memory_order_relaxed), true;
  deferring_spin_guard held(lock_);
  for (unsigned i = 1; i < size(); i++) {
    if (hubs_[i] == h) return h->holds.fetch_add(1, std::memory_order_relaxed), true;
  }
  return false;
}

hub* hub_crew::hold_hub_of(const fiber* f) noexcept {
  for (;;) {
    hub* h = hub::now_of(f);
    if (hold(h)) return h;
    if (h == hub::now_of(f)) return nullptr;
  }
}

void hub_crew::let_go(hub& h) noexcept {
  if (&h == first()) return void(h.holds.fetch_sub(1, std::memory_order_relaxed));
  deferring_spin_guard held(lock_);
  h.holds.fetch_sub(1, std::memory_order_relaxed);
  if (dissolves_) unpark(&h.main);
}

void hub_crew::forward(pending_signal* p) noexcept {
  hub* h = crew.hold_hub_of(p->target->signals.owner);
  if (!h) return drop_pending(p);  // its thread has ended
  h->signals.accept(p);
  crew.let_go(*h);
}

bool hub_crew::answer(siginfo_t*, void*) noexcept {
  if (!current || !hub::of(current)->is_asked.exchange(false)) return false;
  request& r = *crew.asked_.load(std::memory_order_acquire);
  r.call(r.argument);
  if (r.left.fetch_sub(1, std::memory_order_acq_rel) == 1) sys::futex_wake(&r.left, 1);
  return true;
}

bool hub_crew::call_on_others(void (*f)(void*) noexcept, void* argument) noexcept {
  request r{f, argument, 1};
  if (!runtime_signal::install(answer)) return false;
  asked_.store(&r, std::memory_order_release);
  for (;;) {
    // A carrier that is being started is not listed yet, and has inherited what its creator had
    // before the call. So it joins first, and no other one starts until the call is over.
    while (starting_.load(std::memory_order_acquire) != nothing) sys::call(SYS_sched_yield);
    spin_guard held(lock_);
    if (starting_.load(std::memory_order_relaxed) != nothing) continue;
    starting_.store(is_barred, std::memory_order_relaxed);
    for (unsigned i = 0; i < size(); i++) {
      hub& h = *hubs_[i];
      if (&h == current->home) continue;
      r.left.fetch_add(1, std::memory_order_relaxed);
      h.is_asked = true;
      sys::call(SYS_tgkill, h.pid, h.tid, runtime_signal::number);
    }
    break;
  }
  for (std::uint32_t n = r.left.fetch_sub(1) - 1; n; n = r.left.load(std::memory_order_acquire))
    sys::futex_wait(&r.left, n);
  starting_.store(nothing, std::memory_order_release);
  return true;
}

void hub_crew::dissolve() noexcept {
  if (size() < 2) return;
  deferring_spin_guard held(lock_);
  dissolves_ = true;
  for (unsigned i = 1; i < size(); i++) unpark(&hubs_[i]->main);
}

}  // namespace tendril::core
