#include "scheduler/home.hpp"

#include <string.h>

#include <new>

#include "fiber/signal_stack.hpp"
#include "fiber/stack_protection.hpp"
#include "fiber/trace.hpp"
#include "scheduler/closing.hpp"
#include "scheduler/hub_registry.hpp"
#include "scheduler/kernel_threads.hpp"
#include "scheduler/stack_overflow.hpp"

extern "C" int __cxa_thread_atexit_impl(void (*)(void*), void*, void*);
extern "C" void* __dso_handle;

namespace tendril::core {

namespace {

std::atomic<reaper> end_of_thread{nullptr};

void run_ready(hub& h) noexcept {
  for (int turn = 0; turn < 100 && !h.ready.empty(); turn++) yield();
}

// Unwinds the unfinished fibers.
void shut_down(hub& h) noexcept {
  // Each unfinished task gets one fiber_exit. A task that waits again while it unwinds gets a few
  // turns, then it is abandoned: a thread's end must not hang.
  if (reaper reap = end_of_thread) {
    for (fiber* f = h.fibers.front(); f; f = h.fibers.after(*f)) {
      if (f == &h.main || f->state == fiber_status::finished) continue;
      if (f->state == fiber_status::switched && f->kind != fiber_kind::task) continue;
      // A fiber that is parked inside an explicit switch has no parent that could take its result
      // now.
      if (f->state != fiber_status::switched)
        f->successor = [](fiber* self) noexcept { return hub::of(self)->next(); };
      reap(f);
    }
    run_ready(h);
  }
  // Now that the tasks have ended, other kernel threads have nothing more to ask of them.
  h.adopt_no_more();
  run_ready(h);
  while (h.main.extra.locals) {
    void* values = h.main.extra.locals;
    h.main.extra.locals = nullptr;
    h.main.extra.drop_locals(values);
  }
  // Fibers suspended in an explicit switch are unwound too, even if there are handles to them.
  for (int round = 0; round < 1'000'000; round++) {
    drop_remote_releases(&h);
    fiber* f = h.fibers.front();
    while (f && (f == &h.main || f->state != fiber_status::switched || f->orphan))
      f = h.fibers.after(*f);
    if (!f) break;
    unwind_held(f);
  }
  close_home(&h);
  set_tracer(nullptr, nullptr, nullptr);
  if (h.signal_stack) drop_signal_stack(h);
  hubs.remove(h);
  h.main.state = fiber_status::finished;
  current = nullptr;
  fiber_unref(&h.main);
}

void thread_ends(void* p) noexcept {
  hub* h = static_cast<hub*>(p);
  // The main thread's end is the end of the process, and so is exit() in a fiber: unfinished fibers
  // are then abandoned, as unfinished threads are.
  if (h->tid == h->pid || current != &h->main) return;
  shut_down(*h);
}

// The memory of carriers' hubs stays mapped, for the next carrier: a kernel thread that has woken a
// fiber may call notify() when the fiber and its hub have ended.
constinit std::atomic<void*> kept_memory[64] = {};

void keep_memory(hub* gone) noexcept {
  if (sys::advise(gone, sizeof(hub), MADV_DONTNEED) < 0)
    memset(static_cast<void*>(gone), 0, sizeof(hub));
  for (auto& place : kept_memory) {
    void* none = nullptr;
    if (place.compare_exchange_strong(none, gone, std::memory_order_release)) return;
  }
}

void* take_kept_memory() noexcept {
  for (auto& place : kept_memory) {
    if (void* p = place.exchange(nullptr, std::memory_order_acquire)) return p;
  }
  return nullptr;
}

constexpr hub_calls for_fibers{
    .destroy =
        [](fiber_home* home) noexcept {
          hub* gone = static_cast<hub*>(home);
          bool carriers = gone->is_carriers;
          free_left_memory(gone);
          gone->~hub();
          if (carriers) return keep_memory(gone);
#ifdef TENDRIL_ASAN
          __lsan_unregister_root_region(gone, sizeof(hub));
#endif
          sys::unmap(gone, sizeof(hub));
        },
    .make_room =
        [](fiber_home* home) noexcept {
          hub* h = static_cast<hub*>(home);
          if (!h->ready.reserve(h->unfinished + 2)) return false;  // and main
          h->room = h->ready.room();
          return true;
        },
    .begin_fibers = [](fiber_home* home) noexcept { watch_overflow(*home); },
    .run_handlers_due = run_handlers_due,
    .depart = hub::depart,
};
constexpr poller::hub_part for_poller{hub::wake, forget_descriptor, wake_closed_waiters};

}  // namespace

static hub* make_home_in(void* memory) noexcept {
  if (!memory) return nullptr;
  descriptors::look_for_shim();
  look_at_stack_protection();
  hub* h = new (memory) hub(for_fibers, for_poller);
  if (!for_fibers.make_room(h)) {
    h->~hub();
    sys::unmap(memory, sizeof(hub));
    return nullptr;
  }
#ifdef TENDRIL_ASAN
  __lsan_register_root_region(memory, sizeof(hub));
#endif
  current = &h->main;
  hubs.add(*h);
  return h;
}

hub* make_carriers_home() noexcept {
  void* memory = take_kept_memory();
  hub* h = make_home_in(memory ? memory : sys::map(sizeof(hub)));
  if (h) h->is_carriers = true;
  return h;
}

void end_carriers_home(hub& h) noexcept { shut_down(h); }

hub* try_to_make_home() noexcept {
  hub* h = make_home_in(sys::map(sizeof(hub)));
  if (h) __cxa_thread_atexit_impl(thread_ends, h, &__dso_handle);
  return h;
}

void hubs_after_fork() noexcept {
  hub* mine = current ? hub::of(current) : nullptr;
  known_threads.generation.fetch_add(1, std::memory_order_relaxed);
  hubs.after_fork(mine);
  if (mine) mine->after_fork();
}

hub* make_home() noexcept {
  hub* h = try_to_make_home();
  if (!h) sys::die("no memory for a hub");
  return h;
}

fiber* make_current() noexcept { return ensure_current(); }

void set_tracer(tracer t, void* context, void (*drop)(void*) noexcept) noexcept {
  trace(ensure_current()->home, t, context, drop);
}

void set_sleep_observer(sleep_observer* o) noexcept { hub::of(ensure_current())->observer = o; }

unsigned process_generation() noexcept {
  return known_threads.generation.load(std::memory_order_relaxed);
}

void set_reaper(reaper r) noexcept {
  // This is called for every task: avoid the store, which all kernel threads would see.
  if (end_of_thread.load(std::memory_order_relaxed) != r) end_of_thread = r;
}

}  // namespace tendril::core
