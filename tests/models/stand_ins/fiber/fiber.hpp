// In place of lib/fiber/fiber.hpp: what the modelled code uses of fibers and of what they share.
#pragma once

#include <tendril/detail/core.hpp>

#include "base/atomic.hpp"
#include "base/deadline.hpp"
#include "base/list.hpp"
#include "fiber/home_now.hpp"
#include "fiber/stack.hpp"

namespace tendril::core {

struct signal_state {
  std::uint64_t mask = 0;
  bool unsure = false, due = false, gone = false, masked = false;
  int depth = 0, child_signal_blocks = 0;
  const fiber* owner = nullptr;
};
struct thread_storage {
  signal_state signals;
  nanoseconds cpu_time = 0, moved_at = 0;
  atomic<bool> bound{false};
};
struct signal_masks {
  void add(std::uint64_t) noexcept {}
  void remove(std::uint64_t) noexcept {}
  bool differ() const noexcept { return false; }
  std::uint64_t intersection() const noexcept { return 0; }
};
inline eh_state no_exceptions;

struct fiber : fiber_head, list_node {
  bool lost = false, started = false, in_transit = false, departs = false;
  atomic<std::uint32_t> refs{1};
  atomic<bool> in_remote_queue{false};
  atomic<bool> ends_wait{false};
  models::plain<fiber*> next_in_remote_queue;
  // A task's code. To wait, it sets its state and returns; it is called again when it was woken.
  void (*run)(fiber&) = nullptr;

  fiber() noexcept { needs_slow_path = true, exceptions = &no_exceptions; }
  void enter_runtime() noexcept { runtime_depth = runtime_depth + 1; }
  void leave_runtime() noexcept { runtime_depth = runtime_depth - 1; }
};

struct hub_calls {
  fiber* (*next)(fiber_home*) noexcept;
};

struct fiber_home : home_head {
  fiber main;
  list<fiber> fibers;
  std::size_t unfinished = 0;
  stack_pool stacks;
  fiber* idle = nullptr;
  thread_storage storage;
  signal_masks masks;
  bool several_threads = false, has_own_fibers = false;
  unsigned native_threads = 1;
  struct {
    nanoseconds counted = 0;
  } cpu;
  int tid = 1, pid = 1;
  std::size_t living = 0;
  const hub_calls* calls = nullptr;
  bool handlers_due() const noexcept { return handlers_are_due; }
  void look_for_handlers() noexcept { handlers_are_due = true; }

  fiber_home() noexcept {
    main.home = this;
    main.storage = &storage;
    main.state = fiber_status::running;
    main.runtime_depth = 0;
    storage.signals.owner = &main;
  }
};

}  // namespace tendril::core
