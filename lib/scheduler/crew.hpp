// The crew: the hubs on which the program's threads run.
//
// The main thread's hub is the first of them. Each of the others belongs to a carrier, a kernel
// thread that the runtime starts for it, when a thread begins and all hubs are busy. Only a hub's
// own kernel thread touches its fibers: a thread that can run moves when its hub gives it away, to
// a hub that sleeps. No hub takes anything.
#pragma once

#include "scheduler/hub.hpp"

namespace tendril::core {

class hub_crew {
 public:
  static constexpr unsigned most = 64;

  // The program is about to make its first thread; `mains` is the main thread's hub. At most
  // `hubs` (up to `most`) will run threads. `chaos`: the seed for hub::chaos; 0: none.
  void begin(hub& mains, unsigned hubs, std::uint64_t chaos) noexcept;
  // In a forked child, which has only the hub of the thread that forked; null: it has none.
  void after_fork(hub* mine) noexcept;

  // The main thread's hub; null: no thread was made yet. Any thread.
  hub* first() const noexcept { return first_.load(std::memory_order_acquire); }
  // How many hubs run threads now. Any thread.
  unsigned size() const noexcept { return size_.load(std::memory_order_relaxed); }

  // Gives a thread that has not begun to a hub that sleeps, or to a new one. `f` belongs to the
  // running hub. False: no other hub can take it, or it is bound to this one.
  bool give(fiber* f) noexcept;
  // Moves the running thread to the main thread's hub. False: it must stay where it is.
  bool move_to_first() noexcept;
  // To be called when the number of threads has become one: hubs without threads are no longer
  // needed.
  void dissolve() noexcept;

  // For a kernel thread that uses the hub of a thread, which may move or end meanwhile: between
  // these calls the hub stays. hold_hub_of() returns null if the thread has ended, and its hub has
  // left the crew.
  hub* hold_hub_of(const fiber* f) noexcept;
  void let_go(hub& h) noexcept;

  // Calls f(argument) on the kernel thread of each other hub, in a handler, which may have
  // interrupted the runtime; returns when all have done so. False: the system refuses the signal.
  // Requires a calling_guard.
  bool call_on_others(void (*f)(void*) noexcept, void* argument) noexcept;
  // One kernel thread at a time has one. While it waits for it, it must not block the runtime's
  // signal, by which the owner may call.
  class calling_guard;

  // Calls f(hub&) for each hub of the crew, under a lock: no hub joins or leaves meanwhile.
  template <class F>
  void for_each(F f) noexcept {
    deferring_spin_guard held(lock_);
    for (unsigned i = 0; i < size_.load(std::memory_order_relaxed); i++) f(*hubs_[i]);
  }

 private:
  static void* carry(void*) noexcept;
  hub* find_idle(const hub& mine) noexcept;
  static void share(hub& mine, bool runs_on) noexcept;
  void stir(hub& mine) noexcept;
  hub* start_hub() noexcept;
  void join(hub& h) noexcept;
  void hand_spare(poller& to) noexcept;
  void carrier_is(std::uint32_t what) noexcept;
  bool leave(hub& h) noexcept;
  bool hold(hub* h) noexcept;
  static void forward(pending_signal* p) noexcept;

  struct request {
    void (*call)(void*) noexcept;
    void* argument;
    atomic<std::uint32_t> left;  // a futex: how many have not answered yet
  };
  static bool answer(siginfo_t*, void*) noexcept;

  atomic<hub*> first_{nullptr};
  atomic<unsigned> size_{0};
  unsigned most_ = 1;
  std::uint64_t chaos_ = 0;
  spin_lock lock_;
  hub* hubs_[most] = {};
  poller::spare spares_[most];  // for hubs that may be started, most_ - 1 of them
  bool dissolves_ = false;
  futex_lock calling_;
  atomic<request*> asked_{nullptr};
  // At most one carrier is being started at a time, and none during call_on_others(). A futex.
  enum : std::uint32_t { nothing, starts, has_joined, has_failed, is_barred };
  atomic<std::uint32_t> starting_{nothing};
  hub* started_ = nullptr;
};

extern constinit hub_crew crew;

class hub_crew::calling_guard {
 public:
  explicit calling_guard(hub_crew& of) noexcept : held_(of.calling_) {}

 private:
  handlers_deferred quiet_;  // another fiber of this hub would wait for ever for the lock
  futex_guard held_;
};

}  // namespace tendril::core
