#include "scheduler/hub.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/single_threaded.h>
#include <sys/stat.h>

#include <new>

#include "base/fork_handlers.hpp"
#include "base/runtime_signal.hpp"
#include "fiber/stack_protection.hpp"
#include "scheduler/stack_overflow.hpp"

extern "C" int __cxa_thread_atexit_impl(void (*)(void*), void*, void*);
extern "C" void* __dso_handle;

namespace tendril::core {

constinit std::atomic<hub*> hub::registry{nullptr};
constinit spin_lock hub::registry_lock;
constinit std::atomic<int> hub::helper_threads{0};
constinit std::atomic<int> hub::count{0};

namespace {

constexpr nanoseconds trim_interval = 1'000'000'000;
constexpr std::size_t most_idle_at_once = 1024;
std::atomic<reaper> end_of_thread{nullptr};

void child_of_fork() noexcept {
  new (&hub::registry_lock) spin_lock;
  hub* mine = current ? hub::of(current) : nullptr;
  for (hub* h = hub::registry; h; h = h->next_hub) {
    if (h != mine) h->io.close_inherited();
  }
  // The hubs of the other kernel threads stayed in the parent process.
  hub::registry = mine;
  hub::count = mine ? 1 : 0;
  if (!mine) return;
  mine->next_hub = nullptr;
  mine->after_fork();
}

// As early as can be, since handlers run in the order of registration: one of the program's that
// closes descriptors in the child must not find the epoll instance that the parent goes on with.
__attribute__((constructor)) void register_fork_handler() noexcept {
  at_fork(descriptors::shared, child_of_fork);
}

void thread_ends(void* p) noexcept {
  hub* h = static_cast<hub*>(p);
  // The main thread's end is the process's, and so is exit() in a fiber: what is unfinished then is
  // abandoned, like threads are.
  if (h->tid == h->pid || current != &h->main) return;
  h->shut_down();
}

}  // namespace

fiber_home* try_to_make_home() noexcept {
  void* memory = sys::map(sizeof(hub));
  if (!memory) return nullptr;
  descriptors::look_for_shim();
  look_at_stack_protection();
  hub* h = new (memory) hub;
  h->destroy = [](fiber_home* home) noexcept {
    hub* gone = static_cast<hub*>(home);
    free_left_memory(gone);
    gone->~hub();
#ifdef TENDRIL_ASAN
    __lsan_unregister_root_region(gone, sizeof(hub));
#endif
    sys::unmap(gone, sizeof(hub));
  };
  h->make_room = [](fiber_home* home) noexcept {
    hub* h = static_cast<hub*>(home);
    if (!h->ready.reserve(h->unfinished + 2)) return false;  // and main
    h->room = h->ready.room();
    return true;
  };
  if (!h->make_room(h)) {
    h->~hub();
    sys::unmap(memory, sizeof(hub));
    return nullptr;
  }
#ifdef TENDRIL_ASAN
  __lsan_register_root_region(memory, sizeof(hub));
#endif
  current = &h->main;
  // The C++ library takes who finds the initialisation of a local static variable begun, on the
  // only thread there is, for a recursion, and throws.
  __libc_single_threaded = 0;
  {
    registry_guard guard;
    h->next_hub = hub::registry;
    hub::registry = h;
  }
  hub::count++;
  __cxa_thread_atexit_impl(thread_ends, h, &__dso_handle);
  return h;
}

fiber_home* make_home() noexcept {
  fiber_home* h = try_to_make_home();
  if (!h) sys::die("no memory for a hub");
  return h;
}

void set_reaper(reaper r) noexcept {
  // Asked for with every task: a store that all kernel threads see is dear.
  if (end_of_thread.load(std::memory_order_relaxed) != r) end_of_thread = r;
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

void hub::look_around() noexcept {
  if ((turns_ & 31) == 0 && may_find_something()) look_if_due();
  if (!mail.empty()) [[unlikely]]
    mail.drain([](fiber* f) { wake(f, wake::unparked); });
  while (ready.empty()) look(true);
}

// Whether look_if_due() has anything to look for: the clock alone takes as long as a few turns.
bool hub::may_find_something() const noexcept {
  return io.has_waiters() || !timers.empty() || arrived_.load(std::memory_order_relaxed) ||
         masks.differ();
}

void hub::look_if_due() noexcept {
  std::uint64_t t = arch::ticks();
  if (t - looked_ < arch::ticks_per_tenth_ms()) return;
  looked_ = t;
  look(false);
  if (masks.differ()) [[unlikely]]
    let_masked_signals_in();
}

void hub::out_of_breath() noexcept {
  breath_ = full_breath;
  if (!in_own_process()) return;  // a vfork child, which must not run our fibers
  handlers_wait quiet(*this);
  look_if_due();
  if (!ready.empty()) yield();
}

void hub::look(bool block) noexcept {
  if (block) {
    if (hopeless()) return deadlock();
    // From here on another thread that leaves mail rings, which takes an open poller.
    io.open();
    sleeping_.store(true, std::memory_order_seq_cst);
    if (!mail.empty() || closed_elsewhere_.load() || arrived_.load()) block = false;
  }
  // A program that never sleeps gives memory back, too.
  bool trims = (++looks_ & 63) == 0;
  nanoseconds t = block || trims || !timers.empty() ? now() : 0;
  nanoseconds trim_next = block || trims ? trim(t) : INT64_MAX;
  if (block) {
    deadline until{timers.next()};
    if (trim_next < until.at) until.at = trim_next;
    timespec wait{}, *timeout = nullptr;
    if (!until.is_never()) {
      nanoseconds left = until.at > t ? until.at - t : 0;
      // The kernel may be late by a thousandth of what it is asked for, but by 0.1 s at most; by 50
      // us in any case.
      nanoseconds slack = left / 1001 < 100'000'000 ? left / 1001 : 100'000'000;
      if (slack > 50'000) left -= slack;
      wait = {.tv_sec = left / 1'000'000'000, .tv_nsec = left % 1'000'000'000};
      timeout = &wait;
    }
    const signal_state& mine = current->storage->signals;
    std::uint64_t asleep = masks.intersection();
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
  if (!mail.empty()) mail.drain([](fiber* f) { wake(f, wake::unparked); });
  if (closed_elsewhere_.load(std::memory_order_relaxed) && closed_elsewhere_.exchange(false) &&
      io.has_waiters()) {
    io.wake_all_closed();
  }
  if (arrived_.load(std::memory_order_relaxed)) {
    sort_arrivals();
    // The main fiber runs the handlers, where it waits: a handler may leave by siglongjmp. If it
    // cannot, they run on the stack that we stand on.
    thread_storage& mains = *first->storage;
    if (mains.signals.due && first->state != fiber_status::running && !runs_its_own(mains)) {
      int depth = inside;
      deliver(mains);
      inside = depth;
    }
  }
}

nanoseconds hub::trim(nanoseconds now) noexcept {
  if (now >= trim_at_) {
    bool partly = give_back_idle(this, most_idle_at_once);
    auto stacks_are = partly ? stack_pool::trimmed::partly : stacks.trim();
    partly = stacks_are == stack_pool::trimmed::partly;
    trims_more_ = stacks_are != stack_pool::trimmed::nothing_left;
    if (!partly && trim_threads && trim_threads()) trims_more_ = true;
    trim_at_ = partly ? now : now + trim_interval;
  }
  return has_to_trim() ? trim_at_ : INT64_MAX;
}

void run_handlers_due() noexcept { hub::of(current)->run_handlers_due(); }

// The signal has ended a wait that nothing else can end.
bool hub::takes_nudge(siginfo_t*, void*) noexcept {
  return current && of(current)->nudged_.exchange(false);
}

void hub::ring() noexcept {
  if (!sleeping_.exchange(false, std::memory_order_seq_cst) || io.interrupt()) return;
  // In a handler of its own the hub's system call has ended anyway.
  if (current && of(current) == this) return;
  nudged_ = true;
  if (runtime_signal::install(takes_nudge)) sys::call(SYS_tgkill, pid, tid, runtime_signal::number);
}

void hub::note_closed() noexcept {
  closed_elsewhere_ = true;
  ring();
}

// Whether the process has no kernel threads but this one and idle helpers.
static bool alone() noexcept {
  if (hub::count.load(std::memory_order_relaxed) > 1) return false;
  struct stat tasks;
  if (sys::call(SYS_newfstatat, AT_FDCWD, "/proc/self/task", &tasks, 0) < 0) return false;
  return long(tasks.st_nlink) - 2 - hub::helper_threads.load(std::memory_order_relaxed) <= 1;
}

// Whether nothing at all can make a fiber of this hub runnable any more.
bool hub::hopeless() const noexcept {
  return timers.empty() && !io.has_waiters() && waits.remote == 0 && mail.empty() &&
         !arrived_.load(std::memory_order_relaxed) && (waits.shared == 0 || alone());
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
  mail.clear();
  waits = {};
  inside = 0;
  cpu.counted = current->storage->cpu_time = 0;
  after_fork_signals();
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
  // Each unfinished task gets one fiber_exit. One that waits again while it unwinds is given a few
  // turns, then abandoned: a thread's end must not hang.
  if (reaper reap = end_of_thread) {
    for (fiber* f = fibers.front(); f; f = fibers.after(*f)) {
      if (f == &main || f->state == fiber_status::finished) continue;
      if (f->state == fiber_status::switched && f->kind != fiber_kind::task) continue;
      // A fiber that is parked inside an explicit switch has no parent that could take its result
      // now.
      if (f->state != fiber_status::switched)
        f->successor = [](fiber* self) noexcept { return of(self)->next(); };
      reap(f);
    }
    for (int turn = 0; turn < 100 && !ready.empty(); turn++) yield();
  }
  while (main.extra.locals) {
    void* values = main.extra.locals;
    main.extra.locals = nullptr;
    main.extra.drop_locals(values);
  }
  // Fibers suspended by a switch of their own are unwound too, whoever holds them.
  for (int round = 0; round < 1'000'000; round++) {
    adopt_doomed(this);
    fiber* f = fibers.front();
    while (f && (f == &main || f->state != fiber_status::switched || f->orphan))
      f = fibers.after(*f);
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
  count--;
  main.state = fiber_status::finished;
  current = nullptr;
  fiber_unref(&main);
}

void forget_descriptor(int fd) noexcept {
  descriptor* d = descriptors::at(fd);
  if (!d) return;
  bool ends = descriptors::is_private(fd);
  std::uint32_t old = d->generation.fetch_add(1, std::memory_order_acq_rel);
  if (!hub::any()) return;
  if (current && !hub::registry.load()->next_hub) return hub::of(current)->io.forget(fd, old, ends);
  hub::for_each([&](hub& h) { h.io.forget(fd, old, ends); });
}

void keep_descriptor(int fd) noexcept {
  // Without a hub nobody tells of forks.
  descriptor* d = current ? descriptors::at(fd) : nullptr;
  if (!d) return;
  forget_descriptor(fd);  // the last file of that number may have been closed by anybody
  descriptors::made_private(fd);
  descriptors::keep(fd);
}

void reveal_descriptor(int fd) noexcept {
  if (descriptor* d = descriptors::at(fd)) d->kept.store(0, std::memory_order_relaxed);
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
