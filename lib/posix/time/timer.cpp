// timer_create(2) for threads that are fibers: timers that signal one of them, and timers on the
// CPU clock of one.
//
// To the kernel, the threads of a hub are one thread, but each may block different signals. So the
// kernel's timers send the tick's signal, which no thread blocks, and the runtime then does what
// the program asked for.
#include <sys/utsname.h>
#include <tendril/posix.hpp>

#include <new>

#include "base/runtime_signal.hpp"
#include "base/signals_blocked.hpp"
#include "posix/threads/preempt.hpp"
#include "posix/time/clock.hpp"
#include "posix/time/timer.hpp"

namespace tendril::posix {

namespace {

constexpr int most_signals = 64;

struct thread_timer {
  std::atomic<bool> used{false};
  // the thread that it signals, or whose clock it is on; null: that thread has ended
  std::atomic<core::thread_storage*> thread{nullptr};
  timer_t timer{};  // sends the tick's signal
  // Called for each tick. Returns the thread for which it has deferred a signal, or null.
  core::thread_storage* (*ticked)(thread_timer&, const siginfo_t&) noexcept = nullptr;
  // For timers that signal the thread: the signal.
  int signal = 0;
  sigval value{};
  std::atomic<int> overruns{0};  // those of the signal that the program handled last
  // For timers on the thread's CPU clock: `sets_off` is the program's timer, which is set off at
  // the time `due`; 0: it is disarmed.
  bool counts = false;
  timer_t sets_off{};
  core::nanoseconds due = 0, interval = 0;
};
constexpr int most_timers = 256;
constinit thread_timer thread_timers[most_timers];
constinit std::atomic<int> thread_timers_used{0};

template <class F>
void each_thread_timer(F f) noexcept {
  if (!thread_timers_used.load(std::memory_order_acquire)) return;
  for (thread_timer& t : thread_timers) {
    if (t.used.load(std::memory_order_acquire)) f(t);
  }
}

void drop(thread_timer& t) noexcept {
  t.thread = nullptr;
  t.used.store(false, std::memory_order_release);
  thread_timers_used.fetch_sub(1, std::memory_order_release);
}

thread_timer* take_thread_timer() noexcept {
  for (thread_timer& t : thread_timers) {
    if (t.used.exchange(true, std::memory_order_acquire)) continue;
    t.counts = false;
    t.overruns = 0;
    thread_timers_used.fetch_add(1, std::memory_order_release);
    return &t;
  }
  return nullptr;
}

// Handles the tick's signal if it came from one of these timers; `target` receives the thread for
// which a signal was deferred, if any. False: it came from none of them.
bool expired(const siginfo_t& tick, core::thread_storage*& target) noexcept {
  auto* timer = static_cast<thread_timer*>(tick.si_value.sival_ptr);
  if (tick.si_code != SI_TIMER || timer < thread_timers || timer >= thread_timers + most_timers)
    return false;
  if (!timer->thread.load(std::memory_order_acquire) || !core::current || !in_hubs_process())
    return true;
  target = timer->ticked(*timer, tick);
  return true;
}

bool on_timer(siginfo_t* info, void* where) noexcept {
  core::thread_storage* target = nullptr;
  int saved = errno;
  if (!expired(*info, target)) return false;
  if (target && !core::current->runtime_depth)
    let_thread_handle(*target, *static_cast<ucontext_t*>(where));
  errno = saved;
  return true;
}

// Makes a kernel timer that ticks for that thread. Null: failed, with errno.
thread_timer* make_ticking(clockid_t clock, thread& who,
                           decltype(thread_timer::ticked) ticked) noexcept {
  thread_timer* mine = core::runtime_signal::install(on_timer) ? take_thread_timer() : nullptr;
  if (!mine) {
    errno = EAGAIN;
    return nullptr;
  }
  mine->thread = who.runs->storage;
  mine->ticked = ticked;
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event._sigev_un._tid = hub::of(who.runs)->tid;
  event.sigev_signo = core::runtime_signal::number;
  event.sigev_value.sival_ptr = mine;
  if (real.timer_create(clock, &event, &mine->timer) == 0) return mine;
  drop(*mine);
  return nullptr;
}

// --- SIGEV_THREAD_ID ---

core::thread_storage* signal_thread(thread_timer& timer, const siginfo_t& tick) noexcept {
  core::thread_storage& target = *timer.thread.load(std::memory_order_acquire);
  siginfo_t info = tick;
  info.si_signo = timer.signal;
  info.si_value = timer.value;
  my_hub().signals.defer_signal(timer.signal, info, &target, &timer.overruns);
  return &target;
}

int create_for_thread(clockid_t clock, const sigevent& event, thread& who,
                      timer_t* timer) noexcept {
  thread_timer* mine = make_ticking(clock, who, signal_thread);
  if (!mine) return -1;
  mine->signal = event.sigev_signo;
  mine->value = event.sigev_value;
  *timer = mine->timer;
  return 0;
}

// --- on the CPU clock of a thread ---
//
// Such a clock runs no faster than its kernel thread's. When the kernel thread's clock says that
// the time may have come, the runtime computes how much is left on the thread's clock. If nothing
// is left, it sets off the program's own timer, which is on another clock.

timespec timespec_of(core::nanoseconds t) noexcept {
  return {.tv_sec = t / 1'000'000'000, .tv_nsec = t % 1'000'000'000};
}

void start_timer(timer_t timer, core::nanoseconds in) noexcept {
  itimerspec once{.it_interval = {}, .it_value = timespec_of(in)};
  real.timer_settime(timer, 0, &once, nullptr);
}

// Protects these timers, which any kernel thread may set. While it is held, no handler of the
// program runs on that kernel thread, and that of the tick leaves the timers alone.
constinit core::spin_lock cpu_timers;
class cpu_timers_guard {
  core::deferring_spin_guard held_{cpu_timers};
};

// Sets off the program's timer if it is due, and arms the kernel timer for the earliest next time.
void look(thread_timer& timer) noexcept {
  core::thread_storage* whose = timer.thread.load(std::memory_order_acquire);
  if (!timer.due || !whose) return;
  core::nanoseconds now = cpu_time(*whose);
  if (timer.due <= now) {
    core::nanoseconds missed = timer.interval ? (now - timer.due) / timer.interval : 0;
    timer.overruns.store(int(missed), std::memory_order_relaxed);
    timer.due = timer.interval ? timer.due + (missed + 1) * timer.interval : 0;
    start_timer(timer.sets_off, 1);
  }
  if (timer.due) start_timer(timer.timer, timer.due - now);
}

core::thread_storage* look_at_clock(thread_timer& timer, const siginfo_t&) noexcept {
  fiber* self = core::current;
  if (self->runtime_depth) return start_timer(timer.timer, 1), nullptr;
  // Not handlers_deferred: it would run the program's handlers on this signal's stack.
  self->enter_runtime();
  {
    cpu_timers_guard guard;
    look(timer);
  }
  self->leave_runtime_quietly();
  return nullptr;
}

int create_on_cpu_clock(thread& whose, sigevent* event, timer_t* timer) noexcept {
  timer_t known;
  if (posix::timer_create(CLOCK_MONOTONIC, event, &known) < 0) return -1;
  thread_timer* mine = make_ticking(clock_of(hub::of(whose.runs)->tid), whose, look_at_clock);
  if (!mine) {
    int saved = errno;
    posix::timer_delete(known);
    errno = saved;
    return -1;
  }
  mine->due = 0;
  mine->sets_off = known;
  mine->counts = true;
  // It ticks by the clock of the thread's kernel thread, for good.
  whose.runs->storage->bound++;
  *timer = known;
  return 0;
}

// The thread timer that sets off the program's timer; null: the program's timer is on a kernel
// clock.
thread_timer* on_cpu_clock(timer_t timer) noexcept {
  thread_timer* found = nullptr;
  each_thread_timer([&](thread_timer& t) {
    if (t.counts && t.sets_off == timer) found = &t;
  });
  return found;
}

thread_timer* that_signals_thread(timer_t timer) noexcept {
  thread_timer* found = nullptr;
  each_thread_timer([&](thread_timer& t) {
    if (!t.counts && t.timer == timer) found = &t;
  });
  return found;
}

// From Linux 6.13 on, setting or deleting a timer drops the signals that it has sent.
bool kernel_drops_sent() noexcept {
  static constinit std::atomic<int> known{0};
  if (int k = known.load(std::memory_order_relaxed)) return k > 1;
  utsname name;
  int version = 0, patch = 0;
  if (sys::call(SYS_uname, &name) == 0) {
    const char* p = name.release;
    for (; *p >= '0' && *p <= '9'; p++) version = version * 10 + *p - '0';
    if (*p == '.') p++;
    for (; *p >= '0' && *p <= '9'; p++) patch = patch * 10 + *p - '0';
  }
  bool drops = version > 6 || (version == 6 && patch >= 13);
  known = drops ? 2 : 1;
  return drops;
}

// Makes such a call, and drops the timer's signals that we have received before it.
template <class F>
int drop_sent(timer_t timer, F call) noexcept {
  if (!core::current || !in_hubs_process() || !my_hub().several_threads || !kernel_drops_sent())
    return call();
  hub& h = my_hub();
  core::handlers_deferred quiet;
  core::all_signals_blocked blocked;
  int r = call();
  if (r == 0) h.signals.drop_timer_signals(int(reinterpret_cast<std::intptr_t>(timer)));
  return r;
}

itimerspec state_of(const thread_timer& t) noexcept {
  core::thread_storage* whose = t.thread.load(std::memory_order_acquire);
  if (!t.due || !whose) return {};
  core::nanoseconds left = t.due - cpu_time(*whose);
  return {.it_interval = timespec_of(t.interval), .it_value = timespec_of(left > 0 ? left : 1)};
}

}  // namespace

int timer_create(clockid_t clock, sigevent* event, timer_t* timer) {
  if (may_be_ours(clock)) {
    clocks_guard guard;
    if (thread* whose = thread_of_clock(clock)) return create_on_cpu_clock(*whose, event, timer);
  }
  if (!core::current || !in_hubs_process()) return real.timer_create(clock, event, timer);
  thread* who =
      event && event->sigev_notify == SIGEV_THREAD_ID ? thread_of(event->_sigev_un._tid) : nullptr;
  if (!who || event->sigev_signo <= 0 || event->sigev_signo > most_signals)
    return real.timer_create(clock, event, timer);
  return create_for_thread(clock, *event, *who, timer);
}

int timer_delete(timer_t timer) {
  int r = drop_sent(timer, [=] { return real.timer_delete(timer); });
  if (r < 0) return r;
  each_thread_timer([&](thread_timer& t) {
    if (t.counts && t.sets_off == timer) real.timer_delete(t.timer);
    if (t.counts ? t.sets_off == timer : t.timer == timer) drop(t);
  });
  return r;
}

int timer_settime(timer_t timer, int flags, const itimerspec* value, itimerspec* old) {
  thread_timer* mine = on_cpu_clock(timer);
  if (!mine) return drop_sent(timer, [=] { return real.timer_settime(timer, flags, value, old); });
  cpu_timers_guard guard;
  itimerspec before = state_of(*mine);
  // This may arm the timer for too long, but it makes the kernel check the arguments.
  int r = real.timer_settime(mine->timer, flags & ~TIMER_ABSTIME, value, old);
  if (r < 0) return r;
  if (old) *old = before;
  core::thread_storage* whose = mine->thread.load(std::memory_order_acquire);
  core::nanoseconds in = nanoseconds_of(value->it_value);
  if (kernel_drops_sent()) {
    itimerspec none{};
    drop_sent(timer, [&] { return real.timer_settime(timer, 0, &none, nullptr); });
  }
  mine->overruns = 0;
  mine->interval = nanoseconds_of(value->it_interval);
  mine->due = in == 0 || !whose       ? 0
              : flags & TIMER_ABSTIME ? in
                                      : deadline::after(cpu_time(*whose), in).at;
  look(*mine);
  return 0;
}

int timer_gettime(timer_t timer, itimerspec* value) {
  thread_timer* mine = on_cpu_clock(timer);
  int r = real.timer_gettime(mine ? mine->timer : timer, value);
  if (r < 0 || !mine) return r;
  cpu_timers_guard guard;
  *value = state_of(*mine);
  return 0;
}

int timer_getoverrun(timer_t timer) {
  thread_timer* mine = on_cpu_clock(timer);
  int r = real.timer_getoverrun(timer);
  if (thread_timer* signals = that_signals_thread(timer); r >= 0 && signals)
    return signals->overruns.load(std::memory_order_relaxed);
  return r >= 0 && mine ? r + mine->overruns.load(std::memory_order_relaxed) : r;
}

void timers_lose_thread(const core::thread_storage& s) noexcept {
  if (!thread_timers_used.load(std::memory_order_relaxed)) return;
  cpu_timers_guard guard;
  each_thread_timer([&](thread_timer& t) {
    if (t.thread.load(std::memory_order_relaxed) == &s) t.thread = nullptr;
  });
}

void timers_are_not_inherited() noexcept {
  new (&cpu_timers) core::spin_lock;
  each_thread_timer([](thread_timer& t) { drop(t); });
}

}  // namespace tendril::posix
