#include "hub.hpp"

#include <pthread.h>
#include <stdlib.h>

#include <new>

#include "overflow.hpp"

extern "C" int __cxa_thread_atexit_impl(void (*)(void*), void*, void*);
extern "C" void* __dso_handle;

namespace tendril::core {

constinit std::atomic<hub*> hub::registry{nullptr};
constinit std::atomic<std::uint32_t> hub::registry_lock{0};

namespace {

constexpr nanoseconds trim_interval = 1'000'000'000;
std::atomic<reaper> end_of_thread{nullptr};

void child_of_fork() noexcept {
  hub::registry_lock = 0;
  hub* mine = current ? hub::of(current) : nullptr;
  // The hubs of the other kernel threads stayed in the parent process.
  hub::registry = mine;
  if (!mine) return;
  mine->next_hub = nullptr;
  mine->after_fork();
}

void register_fork_handler() noexcept {
  static std::atomic<bool> done{false};
  if (!done.exchange(true)) pthread_atfork(descriptors::shared, nullptr, child_of_fork);
}

void thread_ends(void* p) noexcept {
  hub* h = static_cast<hub*>(p);
  // The main thread's end is the process's, and so is exit() in a fiber: what is unfinished then is abandoned,
  // like threads are.
  if (h->tid == h->pid || current != &h->main) return;
  h->shut_down();
}

}  // namespace

fiber_home* make_home() noexcept {
  register_fork_handler();
  void* memory = sys::map(sizeof(hub));
  if (!memory) sys::die("no memory for a hub");
  hub* h = new (memory) hub;
  h->destroy = [](fiber_home* home) noexcept {
    hub* gone = static_cast<hub*>(home);
    gone->~hub();
#ifdef TENDRIL_ASAN
    __lsan_unregister_root_region(gone, sizeof(hub));
#endif
    sys::unmap(gone, sizeof(hub));
  };
  h->make_room = [](fiber_home* home) noexcept {
    return static_cast<hub*>(home)->ready.reserve(home->unfinished + 2);  // and main
  };
  if (!h->make_room(h)) sys::die("no memory for a hub");
#ifdef TENDRIL_ASAN
  __lsan_register_root_region(memory, sizeof(hub));
#endif
  current = &h->main;
  {
    registry_guard guard;
    h->next_hub = hub::registry;
    hub::registry = h;
  }
  __cxa_thread_atexit_impl(thread_ends, h, &__dso_handle);
  return h;
}

void set_reaper(reaper r) noexcept { end_of_thread = r; }

void hub::wake(fiber* f, core::wake why) noexcept {
  if (f->state != fiber_status::parked) return;
  f->woken = why;
  f->state = fiber_status::ready;
  of(f)->ready.push(f);
}

fiber* hub::next() noexcept {
  breath_ = full_breath;
  if ((++turns_ & 31) == 0) look_if_due();
  if (!mail.empty()) [[unlikely]] mail.drain([](fiber* f) { wake(f, wake::unparked); });
  while (ready.empty()) look(true);
  return ready.pop();
}

void hub::look_if_due() noexcept {
  std::uint64_t t = arch::ticks();
  if (t - looked_ < arch::ticks_per_tenth_ms()) return;
  looked_ = t;
  look(false);
}

void hub::out_of_breath() noexcept {
  breath_ = full_breath;
  if (pid != sys::getpid()) return;  // a vfork child, which must not run our fibers
  handlers_wait quiet(*this);
  look_if_due();
  if (!ready.empty()) yield();
}

void hub::look(bool block) noexcept {
  if (block) {
    if (timers.empty() && !io.has_waiters() && remote_waits == 0 && mail.empty() &&
        signals.load(std::memory_order_relaxed) == signals_seen_ && !handlers_put_off()) {
      return deadlock();
    }
    // From here on another thread that leaves mail rings, which takes an open poller.
    io.open();
    sleeping_.store(true, std::memory_order_seq_cst);
    if (!mail.empty() || closed_elsewhere_.load() || signals.load() != signals_seen_ || handlers_put_off()) {
      block = false;
    }
  }
  nanoseconds t = block || !timers.empty() ? now() : 0;
  if (block) {
    deadline until = timers.next();
    // A thread that has nothing to do gives the memory of stacks that it does not use back, once a second.
    if (until.at - t > trim_interval && t - trimmed_ >= trim_interval) {
      trimmed_ = t;
      if (stacks.trim()) until = deadline::after(t, trim_interval);
    }
    timespec wait{}, *timeout = nullptr;
    if (!until.is_never()) {
      nanoseconds left = until.at > t ? until.at - t : 0;
      wait = {.tv_sec = left / 1'000'000'000, .tv_nsec = left % 1'000'000'000};
      timeout = &wait;
    }
    io.poll(timeout);
    t = now();
  } else if (io.has_waiters()) {
    timespec none{};
    io.poll(&none);
  }
  sleeping_.store(false, std::memory_order_relaxed);
  if (!timers.empty()) timers.run(t);
  if (!mail.empty()) mail.drain([](fiber* f) { wake(f, wake::unparked); });
  if (closed_elsewhere_.load(std::memory_order_relaxed) && closed_elsewhere_.exchange(false) && io.has_waiters()) {
    io.wake_all_closed();
  }
  if (signals.load(std::memory_order_relaxed) != signals_seen_ || handlers_put_off()) deliver_signals();
}

void hub::deliver_signals() noexcept {
  // The main fiber runs the handlers, where it waits: it is the thread that a program without fibers would have,
  // and a handler may leave by siglongjmp. If it cannot, the handlers run on the stack that we stand on.
  bool main_can = main.state == fiber_status::ready ||
                  (main.state == fiber_status::parked && (main.waiting->interruptible || main.waiting->uninterruptible));
  if (handlers_put_off() && !main_can) run_handlers();
  signals_seen_ = signals.load(std::memory_order_relaxed);
  if (main.state == fiber_status::parked && main.waiting->interruptible) wake(&main, wake::signal);
  for (fiber* f = fibers.front(); f; f = fibers.after(*f)) {
    if (f->state == fiber_status::parked && f->waiting->for_signal) wake(f, wake::signal);
  }
}

void hub::note_signal(bool restart) noexcept {
  if (!restart) signals_norestart.fetch_add(1, std::memory_order_relaxed);
  signals.fetch_add(1, std::memory_order_seq_cst);
  ring();
}

void hub::put_off(int signal) noexcept {
  put_off_ = put_off_ | 1ULL << (signal - 1);
  ring();
}

void hub::run_handlers() noexcept {
  int depth = inside;
  inside = 0;  // from here on handlers run at once, and put_off_ is ours
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::uint64_t due = put_off_;
  put_off_ = 0;
  sys::call(SYS_rt_sigprocmask, SIG_UNBLOCK, &due, 0, 8);
  inside = depth;
}

void hub::run_handlers_due() noexcept {
  if (current != &main) {
    inside = 1;
    if (main.state == fiber_status::parked && main.waiting->interruptible) wake(&main, wake::signal);
    inside = 0;
    if (main.state == fiber_status::ready && main.woken == wake::signal) return;  // it will
  }
  run_handlers();
}

void hub::ring() noexcept {
  if (sleeping_.exchange(false, std::memory_order_seq_cst)) io.interrupt();
}

void hub::note_closed() noexcept {
  closed_elsewhere_ = true;
  ring();
}

// Nobody can run, and nothing that this hub knows of can change that.
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
    // The last fiber of a forked child has ended, as its last thread would have.
    if (main.lost) exit(0);
    sys::die("no fiber can run: the main fiber waits in a switch for one that has ended or waits for ever");
  }
  wake(victim, wake::deadlock);
}

void hub::after_fork() noexcept {
  tid = sys::gettid();
  pid = sys::getpid();
  io.after_fork();
  timers.clear();
  ready.clear();
  mail.clear();
  remote_waits = 0;
  inside = 0;
  if (handlers_put_off()) run_handlers();  // just unblocks: a child has no pending signals
  masked = 0;
  child_signal_blocks = 0;
  for (fiber* f = fibers.front(); f;) {
    fiber* next = fibers.after(*f);
    f->in_inbox = false;
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
}

void hub::shut_down() noexcept {
  // Each unfinished task gets one fiber_exit. One that waits again while it unwinds is given a few turns, then
  // abandoned: a thread's end must not hang.
  if (reaper reap = end_of_thread) {
    for (fiber* f = fibers.front(); f; f = fibers.after(*f)) {
      if (f == &main || f->state == fiber_status::finished) continue;
      if (f->state == fiber_status::switched && f->kind != fiber_kind::task) continue;
      // A fiber that is parked inside an explicit switch has no parent that could take its result now.
      if (f->state != fiber_status::switched) f->successor = [](fiber* self) noexcept { return of(self)->next(); };
      reap(f);
    }
    for (int turn = 0; turn < 100 && !ready.empty(); turn++) yield();
  }
  // Fibers suspended by a switch of their own are unwound too, whoever holds them.
  for (int round = 0; round < 1'000'000; round++) {
    adopt_doomed(this);
    fiber* f = fibers.front();
    while (f && (f == &main || f->state != fiber_status::switched || f->orphan)) f = fibers.after(*f);
    if (!f) break;
    unwind_held(f);
  }
  close_home(this);
  set_tracer(nullptr, nullptr, nullptr);
  if (signal_stack) drop_signal_stack(*this);
  {
    registry_guard guard;
    for (hub* h = registry; h; h = h->next_hub) {
      if (h->next_hub == this) h->next_hub = next_hub;
    }
    if (registry == this) registry = next_hub;
  }
  main.state = fiber_status::finished;
  current = nullptr;
  fiber_unref(&main);
}

void forget_descriptor(int fd) noexcept {
  descriptor* d = descriptors::at(fd);
  if (!d) return;
  std::uint32_t old = d->generation.fetch_add(1, std::memory_order_acq_rel);
  if (!hub::any()) return;
  if (current && !hub::registry.load()->next_hub) return hub::of(current)->io.forget(fd, old);
  hub::for_each([&](hub& h) { h.io.forget(fd, old); });
}

void wake_closed_waiters(int fd) noexcept {
  if (!hub::any()) return;
  hub* mine = current ? hub::of(current) : nullptr;
  if (mine) mine->io.wake_closed(fd);
  if (mine && !mine->next_hub && hub::registry == mine) return;
  // Also those without waiters: one may be about to list its first.
  hub::for_each([&](hub& h) {
    if (&h != mine) h.note_closed();
  });
}

}  // namespace tendril::core
