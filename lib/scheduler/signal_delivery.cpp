#include "scheduler/signal_delivery.hpp"

#include <errno.h>

#include <initializer_list>
#include <new>

#include "base/runtime_signal.hpp"
#include "fiber/cpu_time.hpp"
#include "fiber/handlers_deferred.hpp"

namespace tendril::core {

namespace {

constexpr int per_chunk = 64, most_chunks = 256;
constinit std::atomic<pending_signal*> chunks[most_chunks] = {};
constexpr int first_real_time = 32;

}  // namespace

pending_signal* make_pending(int signal, const siginfo_t& info, thread_storage* target,
                             std::atomic<int>* overruns) noexcept {
  for (auto& chunk : chunks) {
    pending_signal* c = chunk.load(std::memory_order_acquire);
    if (!c) {
      c = static_cast<pending_signal*>(sys::map(per_chunk * sizeof(pending_signal)));
      if (!c) return nullptr;
      pending_signal* others = nullptr;
      if (!chunk.compare_exchange_strong(others, c, std::memory_order_acq_rel)) {
        sys::unmap(c, per_chunk * sizeof(pending_signal));
        c = others;
      }
    }
    for (int i = 0; i < per_chunk; i++) {
      if (c[i].used.load(std::memory_order_relaxed) ||
          c[i].used.exchange(true, std::memory_order_acquire))
        continue;
      c[i].signal = signal;
      c[i].info = info;
      c[i].target = target;
      c[i].overruns = overruns;
      c[i].next = nullptr;
      return &c[i];
    }
  }
  return nullptr;
}

void drop_pending(pending_signal* p) noexcept { p->used.store(false, std::memory_order_release); }

// --- choosing the thread ---

bool signal_delivery::defer_signal(int signal, const siginfo_t& info, thread_storage* target,
                                   std::atomic<int>* overruns) noexcept {
  pending_signal* p = make_pending(signal, info, target, overruns);
  if (!p) return false;
  accept(p);
  return true;
}

void signal_delivery::accept(pending_signal* p) noexcept {
  p->next = arrived_.load(std::memory_order_relaxed);
  while (!arrived_.compare_exchange_weak(p->next, p, std::memory_order_acq_rel)) {}
  home_.handlers_are_due = true;
  calls_.notify(home_);
  // It may compute, or be about to leave the runtime without having seen the signal.
  if (home_.several_threads && !(current && current->home == &home_)) calls_.interrupt(home_);
}

thread_storage* signal_delivery::signal_target(int signal) noexcept {
  if (!home_.several_threads) return &home_.storage;
  std::uint64_t bit = signal_bit(signal);
  auto takes = [&](const fiber* f) {
    return !f->storage->signals.gone && !(f->storage->signals.mask & bit);
  };
  if (takes(first)) return first->storage;  // the kernel, too, prefers the main thread
  if (takes(current)) return current->storage;
  for (fiber* f = home_.fibers.front(); f; f = home_.fibers.after(*f)) {
    if (f->state != fiber_status::finished && f->storage->signals.owner == f && takes(f))
      return f->storage;
  }
  return nullptr;
}

bool signal_delivery::runs_its_own(const thread_storage& t) const noexcept {
  const fiber* f = t.signals.owner;
  return f->state == fiber_status::ready ||
         (f->state == fiber_status::parked &&
          (f->waiting->interruptible || f->waiting->uninterruptible));
}

void signal_delivery::add_pending(thread_storage& t, pending_signal* p) noexcept {
  signal_state& s = t.signals;
  std::uint64_t bit = signal_bit(p->signal);
  bool timers = p->info.si_code == SI_TIMER;
  if (s.gone || (!timers && p->signal < first_real_time && (s.pending & bit)))
    return drop_pending(p);
  p->next = nullptr;
  pending_signal** end = &s.first;
  for (; *end; end = &(*end)->next) {
    siginfo_t& waits = (*end)->info;
    if (!timers || waits.si_code != SI_TIMER || waits.si_timerid != p->info.si_timerid) continue;
    // Each timer has at most one pending signal.
    waits.si_overrun += p->info.si_overrun + 1;
    return drop_pending(p);
  }
  *end = p;
  s.pending = s.pending | bit;
  bool lets_through = !home_.several_threads || !(s.mask & bit);
  if (lets_through || s.depth) s.due = true;
  fiber* f = s.owner;
  if (lets_through && (&t == current->storage || !runs_its_own(t))) home_.handlers_are_due = true;
  if (f->state != fiber_status::parked) return;
  // A fiber that waits for a descriptor may wait for a signalfd, although it blocks the signal.
  bool by_descriptor =
      f->waiting->kind == wait_kind::descriptor || f->waiting->kind == wait_kind::descriptors;
  if ((lets_through && f->waiting->interruptible) || (s.awaited & bit) || by_descriptor)
    calls_.wake(f, wake::signal);
}

int signal_delivery::post(thread_storage& t, int signal, const siginfo_t& info) noexcept {
  pending_signal* p = make_pending(signal, info, &t);
  if (!p) return -EAGAIN;
  add_pending(t, p);
  return 0;
}

void signal_delivery::sort_arrivals() noexcept {
  pending_signal* first_come = nullptr;
  for (pending_signal* p = arrived_.exchange(nullptr, std::memory_order_acq_rel); p;) {
    pending_signal* next = p->next;
    p->next = first_come;
    first_come = p;
    p = next;
  }
  while (pending_signal* p = first_come) {
    first_come = p->next;
    thread_storage* t = p->target ? p->target : signal_target(p->signal);
    if (t) {
      // Only a thread's own hub changes the thread's state.
      const fiber* owner = t->signals.owner;
      p->target = t;
      if (home_now(owner) != &home_ || owner->in_transit) forward(p);
      else add_pending(*t, p);
      continue;
    }
    // By now all threads block it: give it back to the kernel, which keeps it pending for the
    // process if its queue has room.
    std::uint64_t bit = signal_bit(p->signal);
    sys::call(SYS_rt_sigprocmask, SIG_BLOCK, &bit, 0, 8);
    p->target = first->storage;
    if (sys::call(SYS_rt_sigqueueinfo, home_.pid, p->signal, &p->info) == -EAGAIN)
      has_main() ? add_pending(*first->storage, p) : forward(p);
    else drop_pending(p);
  }
}

bool signal_delivery::take_pending(thread_storage& t, std::uint64_t set, siginfo_t& info) noexcept {
  signal_state& s = t.signals;
  std::uint64_t found = s.pending & set;
  if (!found) return false;
  int signal = __builtin_ctzll(found) + 1;
  bool more = false;
  pending_signal* taken = nullptr;
  for (pending_signal** p = &s.first; *p;) {
    if ((*p)->signal != signal) {
      p = &(*p)->next;
    } else if (!taken) {
      taken = *p;
      *p = taken->next;
    } else {
      more = true;
      break;
    }
  }
  if (!more) s.pending = s.pending & ~signal_bit(signal);
  if (!taken) return false;
  info = taken->info;
  info.si_signo = signal;
  if (taken->overruns) taken->overruns->store(info.si_overrun, std::memory_order_relaxed);
  drop_pending(taken);
  return true;
}

void signal_delivery::drop_timer_signals(int timer) noexcept {
  sort_arrivals();
  for (fiber* f = home_.fibers.front(); f; f = home_.fibers.after(*f)) {
    signal_state& s = f->storage->signals;
    if (s.owner != f || !s.pending) continue;
    std::uint64_t left = 0;
    for (pending_signal** at = &s.first; pending_signal* p = *at;) {
      if (p->info.si_code == SI_TIMER && p->info.si_timerid == timer) {
        *at = p->next;
        drop_pending(p);
      } else {
        left |= signal_bit(p->signal);
        at = &p->next;
      }
    }
    s.pending = left;
  }
}

// --- masks ---

std::uint64_t signal_delivery::own_mask() noexcept {
  std::uint64_t now = 0;
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, 0, &now, 8);
  mask_is(*current->storage, now);
  return now;
}

void signal_delivery::mask_is(thread_storage& t, std::uint64_t mask) noexcept {
  signal_state& s = t.signals;
  if (home_.several_threads && !s.gone) home_.masks.change(s.mask, mask);
  s.mask = mask;
  if (s.pending & ~mask) {
    s.due = true;
    if (current && &t == current->storage) home_.handlers_are_due = true;
  }
}

void signal_delivery::set_mask(std::uint64_t mask) noexcept {
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
  mask_is(*current->storage, mask);
}

// A busy thread that blocks a signal must not keep it from threads that do not block it.
void signal_delivery::let_masked_signals_in() noexcept {
  const signal_state& s = current->storage->signals;
  std::uint64_t wanted = home_.masks.intersection(), mine;
  if (!home_.several_threads || (s.mask == wanted && !s.unsure)) return;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &wanted, &mine, 8);
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &mine, 0, 8);
  if (arrived_.load(std::memory_order_relaxed)) sort_arrivals();
}

void signal_delivery::begin_threads() noexcept {
  if (home_.several_threads) return;
  handlers_deferred quiet;
  signal_state& s = home_.storage.signals;
  sys::call(SYS_rt_sigprocmask, SIG_BLOCK, 0, &s.mask, 8);
  home_.masks.clear();
  home_.masks.add(s.mask);
  count_cpu_time(home_.storage, home_.storage, home_);
  home_.several_threads = true;
  stack_t has{};
  if (!sys::is_refused(SYS_sigaltstack) && sys::call(SYS_sigaltstack, 0, &has) == 0 &&
      !(has.ss_flags & SS_DISABLE) && has.ss_sp != home_.signal_stack) {
    s.stack = s.entered = has;
    s.stack.ss_flags &= ~SS_ONSTACK;
  }
  own_stacks.set();
}

void signal_delivery::join(const signal_delivery& mains) noexcept {
  handlers_deferred quiet;
  first = mains.first;
  forward = mains.forward;
  home_.storage.signals.gone = true;
  home_.masks.clear();
  count_cpu_time(home_.storage, home_.storage, home_);
  home_.several_threads = true;
  own_stacks.set();
  set_mask(own_mask() & ~runtime_signal::bit);
}

void signal_delivery::thread_begins(thread_storage& t, fiber* owner, std::uint64_t mask) noexcept {
  t.signals.owner = owner;
  t.signals.mask = mask;
}

void signal_delivery::thread_ends(thread_storage& t) noexcept {
  handlers_deferred quiet;
  signal_state& s = t.signals;
  if (s.gone) return;
  home_.masks.remove(s.mask);
  s.gone = true;
  while (pending_signal* p = s.first) {
    s.first = p->next;
    drop_pending(p);
  }
  s.pending = 0;
  s.due = false;
  if (s.left) own_stacks.give_back(s.left);
  s.left = nullptr;
}

// --- running handlers ---

void signal_delivery::note_handled(thread_storage& t, bool restart) noexcept {
  signal_state& s = t.signals;
  if (!restart) s.handled_norestart.fetch_add(1, std::memory_order_relaxed);
  s.handled.fetch_add(1, std::memory_order_relaxed);
  fiber* self = current;
  if (self->runtime_depth) return;  // a fault in the runtime itself
  self->runtime_depth = 1;
  fiber* f = s.owner;
  if (f->state == fiber_status::parked && f->waiting->interruptible) calls_.wake(f, wake::signal);
  for (f = sharing_waits ? home_.fibers.front() : nullptr; f; f = home_.fibers.after(*f)) {
    if (f->storage == &t && f->state == fiber_status::parked && f->waiting->for_signal)
      calls_.wake(f, wake::signal);
  }
  self->runtime_depth = 0;
}

// Sends the signal to this kernel thread, which handles it now or when it returns from a handler.
static void send_here(int pid, int tid, int signal, const siginfo_t& info) noexcept {
  if (sys::call(SYS_rt_tgsigqueueinfo, pid, tid, signal, &info) != -EAGAIN) return;
  // The user's signal queue is full (RLIMIT_SIGPENDING): a signal without information needs no
  // place in it.
  siginfo_t bare{};
  bare.si_signo = signal;
  bare.si_code = SI_USER;
  sys::call(SYS_rt_tgsigqueueinfo, pid, tid, signal, &bare);
}

void signal_delivery::deliver(thread_storage& t) noexcept {
  signal_state& s = t.signals;
  fiber* self = current;
  bool mine = &t == self->storage;
  for (;;) {
    self->runtime_depth = 1;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    std::uint64_t now = 0;
    sys::call(SYS_rt_sigprocmask, SIG_BLOCK, 0, &now, 8);
    if (mine && home_.several_threads) mask_is(t, now);
    std::uint64_t blocked = mine ? now : s.mask;
    siginfo_t info;
    if (!take_pending(t, ~blocked, info)) {
      s.due = s.pending && s.depth;
      // With only one thread: give blocked signals back to the kernel, which delivers them once
      // they are unblocked.
      for (pending_signal* p = home_.several_threads ? nullptr : s.first; p; p = s.first) {
        if (sys::call(SYS_rt_tgsigqueueinfo, home_.pid, home_.tid, p->signal, &p->info) == -EAGAIN)
          break;
        take_pending(t, signal_bit(p->signal), info);
      }
      self->runtime_depth = 0;
      return;
    }
    int signal = info.si_signo;
    std::uint64_t others = ~signal_bit(signal);
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &others, 0, 8);
    delivery.target = &t;
    delivery.mask = now;
    delivery.info = &info;
    delivery.signal = signal;
    self->runtime_depth = 0;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    send_here(home_.pid, home_.tid, signal, info);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (!delivery.signal) continue;
    delivery.signal = 0;  // the signal is ignored by now
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &now, 0, 8);
  }
}

void signal_delivery::run_handlers() noexcept {
  fiber* self = current;
  int depth = self->runtime_depth;
  self->runtime_depth = 1;
  home_.handlers_are_due = false;
  if (arrived_.load(std::memory_order_relaxed)) sort_arrivals();
  thread_storage* t = self->storage;
  if (t->signals.due) deliver(*t);
  if (t != first->storage && has_main() && first->storage->signals.due &&
      !runs_its_own(*first->storage))
    deliver(*first->storage);
  self->runtime_depth = depth;
}

void signal_delivery::run_handlers_due() noexcept {
  fiber* self = current;
  self->runtime_depth = 1;
  home_.handlers_are_due = false;
  if (arrived_.load(std::memory_order_relaxed)) sort_arrivals();
  thread_storage* t = self->storage;
  self->runtime_depth = 0;
  // A fiber that is not the thread's own leaves the handlers to the thread's own fiber, if that can
  // run them.
  if (t->signals.due && (t->signals.owner == self || !runs_its_own(*t))) deliver(*t);
  t = first->storage;
  if (t != self->storage && has_main() && t->signals.due && !runs_its_own(*t)) deliver(*t);
}

void signal_delivery::run_handlers_of_main() noexcept {
  if (!has_main()) return;
  thread_storage& mains = *first->storage;
  if (!mains.signals.due || first->state == fiber_status::running || runs_its_own(mains)) return;
  fiber* self = current;
  int depth = self->runtime_depth;
  deliver(mains);
  self->runtime_depth = depth;
}

void signal_delivery::deliver_on_return(std::uint64_t& mask,
                                        bool (*has_handler)(int) noexcept) noexcept {
  home_.handlers_are_due = false;
  if (arrived_.load(std::memory_order_relaxed)) sort_arrivals();
  thread_storage* running = current->storage;
  mask_is(*running, mask);
  for (thread_storage* t : {running, first->storage}) {
    if (t != running && !has_main()) continue;
    signal_state& s = t->signals;
    bool leaves_it = t == running ? s.owner != current && runs_its_own(*t) : runs_its_own(*t);
    if (!s.due || leaves_it) continue;
    std::uint64_t handled = 0;
    for (std::uint64_t left = s.pending & ~s.mask; left; left &= left - 1) {
      int signal = __builtin_ctzll(left) + 1;
      if (has_handler(signal)) handled |= signal_bit(signal);
    }
    home_.handlers_are_due = true;  // for the other signals, when it next leaves the runtime
    if (!take_pending(*t, handled, delivered_on_return_)) continue;
    int signal = delivered_on_return_.si_signo;
    delivery.target = t;
    delivery.mask = mask;
    delivery.info = &delivered_on_return_;
    delivery.signal = signal;
    mask = ~signal_bit(signal);
    return send_here(home_.pid, home_.tid, signal, delivered_on_return_);
  }
}

void signal_delivery::after_fork() noexcept {
  arrived_ = nullptr;
  home_.handlers_are_due = false;
  sharing_waits = 0;
  delivery.signal = 0;
  for (auto& chunk : chunks) {
    pending_signal* c = chunk.load();
    for (int i = 0; c && i < per_chunk; i++) c[i].used = false;
  }
  signal_state& s = current->storage->signals;
  s.first = nullptr;
  s.pending = 0;
  s.due = false;
  s.masked = 0;
  s.child_signal_blocks = 0;
  if (current->storage->signals.owner) first = current->storage->signals.owner;
  home_.masks.clear();
  if (home_.several_threads) home_.masks.add(s.mask);
}

}  // namespace tendril::core
