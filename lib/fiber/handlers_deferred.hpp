// Signal handlers are deferred while a fiber is inside the runtime.
#pragma once

#include "base/futex_lock.hpp"
#include "base/signals_blocked.hpp"
#include "fiber/fiber.hpp"

namespace tendril::core {

// While an object of this class lives, no signal handler of the program runs: a handler might find
// the runtime half changed, and leave it so by siglongjmp. Handlers run as soon as the fiber has
// left the outermost one.
class handlers_deferred {
 public:
  explicit handlers_deferred(fiber* running = current) noexcept : fiber_(*running) {
    fiber_.enter_runtime();
  }
  ~handlers_deferred() { fiber_.leave_runtime(); }
  handlers_deferred(const handlers_deferred&) = delete;

 private:
  fiber& fiber_;
};

// The same for any kernel thread, with or without fibers.
class signals_deferred {
 public:
  signals_deferred() noexcept {
    if (mine_) [[likely]]
      mine_->enter_runtime();
  }
  ~signals_deferred() {
    if (mine_) [[likely]]
      mine_->leave_runtime();
  }
  signals_deferred(const signals_deferred&) = delete;

 private:
  fiber* mine_ = current;
  all_signals_blocked blocked_{!mine_};
};

// Holds a spin lock that signal handlers, or a thread that the tick lets run, may want, too: none
// of them runs meanwhile, and so none waits for what it has interrupted.
class deferring_spin_guard {
 public:
  explicit deferring_spin_guard(spin_lock& l) noexcept : held_(l) {}

 private:
  signals_deferred quiet_;
  spin_guard held_;
};

}  // namespace tendril::core
