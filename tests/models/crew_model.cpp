// scheduler/crew.cpp and the hub: the main thread makes a thread, which begins on another hub, and
// a second one when that has ended. A third kernel thread wakes the first one, wherever it is. The
// other hub ends as soon as no thread needs it: nobody uses it afterwards.
#include "scheduler/crew.hpp"

#include "checker.hpp"
#include "hub_calls.hpp"
#include "scheduler/helper_pool.hpp"
#include "scheduler/home.hpp"
#include "scheduler/hub_registry.hpp"
#include "scheduler/kernel_threads.hpp"
#include "scheduler/park.hpp"

using namespace tendril::core;

namespace {

struct model;
model* running = nullptr;

struct model : models::suite<model, 3> {
  models::begun_anew<kernel_threads> threads{known_threads};
  models::begun_anew<hub_registry> registry{hubs};
  models::begun_anew<hub_crew> anew{crew};
  hub mains{models::calls, models::for_poller};
  fiber tasks[2];
  models::refers<fiber_home> homes[2]{models::refers(tasks[0].home), models::refers(tasks[1].home)};
  thread_storage storages[2];
  atomic<unsigned> living{1}, ended{0};
  atomic<std::uint32_t> carriers_begin{0};  // 1: run it; 2: it is not needed
  atomic<bool> made{false};
  alignas(hub) unsigned char carriers_memory[2][sizeof(hub)];
  unsigned carriers = 0;
  bool first_makes_second = false;

  void before() {
    running = this;
    mains.ready.reserve(8);
    models::watch(crew);
    models::watch(mains);
    crew.begin(mains, 2, 0);
    for (unsigned i : {0, 1}) {
      tasks[i].refs.store(2);
      atomic_ref(tasks[i].home).store(&mains, std::memory_order_relaxed);
      tasks[i].storage = &storages[i];
    }
    tasks[0].run = [](fiber&) { running->run_first(); };
    tasks[1].run = [](fiber&) { running->end_task(); };
    first_makes_second = rl::ctx().rand(2, rl::sched_type_user);
  }
  void run_first() {
    if (first_makes_second) make(tasks[1]);
    end_task();
  }
  // A thread's end, as one_less() in posix/threads/create.cpp.
  void end_task() {
    ended.fetch_add(1u, std::memory_order_release);
    unpark(&mains.main);
    if (living.fetch_sub(1u) == 2) crew.dissolve();
  }
  // As pthread_create().
  void make(fiber& f) {
    living.fetch_add(1u);
    hub& mine = *hub::of(current);
    atomic_ref(f.home).store(&mine, std::memory_order_relaxed);
    mine.living++;
    if (crew.give(&f)) return;
    mine.begin_thread(&f);
    fiber_unref(&f);
  }
  void run(unsigned i) {
    if (i == 0) {
      current = &mains.main;
      wait_info what;
      what.wakeable_by_system = true;
      make(tasks[0]);
      made.store(true, std::memory_order_release);
      while (ended.load(std::memory_order_acquire) < 1) park(INT64_MAX, what);
      if (!first_makes_second) make(tasks[1]);
      while (ended.load(std::memory_order_acquire) < 2) park(INT64_MAX, what);
      std::uint32_t none = 0;
      carriers_begin.compare_exchange_strong(none, 2);
      carriers_begin.wake(1);
      current = nullptr;
    } else if (i == 1) {
      while (carriers_begin.load(std::memory_order_acquire) != 2) {
        if (carriers_begin.sleep_while(0)) continue;
        std::uint32_t one = 1;
        if (carriers_begin.compare_exchange_strong(one, 0)) body(nullptr);
      }
    } else {
      if (!made.load(std::memory_order_acquire)) return;
      hub* h = crew.hold_hub_of(&tasks[0]);
      if (!h) return;
      unpark(&tasks[0]);
      crew.let_go(*h);
    }
  }
  ~model() {
    models::watch_no_more(&crew);
    models::watch_no_more(&mains);
  }
  void after() { models::expect(ended == 2, "a thread has run twice"); }
  void* (*body)(void*) = nullptr;
};

}  // namespace

namespace tendril::core {

bool start_own_thread(void* (*run)(void*), void*, std::size_t) noexcept {
  running->body = run;
  running->carriers_begin.store(1);
  running->carriers_begin.wake(1);
  return true;
}
hub* make_carriers_home() noexcept {
  hub* h = new (running->carriers_memory[running->carriers++ % 2])
      hub(models::calls, models::for_poller);
  h->ready.reserve(8);
  models::watch(*h);
  hubs.add(*h);
  return current = &h->main, h;
}
void end_carriers_home(hub& h) noexcept {
  hubs.remove(h);
  models::watch_no_more(&h);
  h.~hub();
  current = nullptr;
}

}  // namespace tendril::core

bool models::check_all() {
  return check<model>({
      .name = "crew",
      .files = {"crew.hpp", "crew.cpp", "futex_lock.hpp"},
      .allowed =
          {
              {"crew.cpp", "first_.store(", "begin() comes before there are other hubs"},
              {"crew.hpp", "hub* first() const", "begin() comes before there are other hubs"},
              {"crew.cpp", "size_.store(i + 1", "what it counts is read under the lock"},
              {"crew.cpp", "starting_.store(nothing", "takes a third hub"},
              {"crew.cpp", "starting_.load(std::memory_order_acquire) != nothing",
               "takes a third hub"},
          },
  });
}
