// In place of lib/scheduler/signal_delivery.hpp: no signal is sent.
#pragma once

#include <signal.h>

#include "fiber/fiber.hpp"

namespace tendril::core {

struct pending_signal {
  thread_storage* target = nullptr;
};
inline void drop_pending(pending_signal*) noexcept {}

struct signal_delivery {
  struct hub_part {
    void (*wake)(fiber*, core::wake) noexcept;
    void (*notify)(fiber_home&) noexcept;
    void (*interrupt)(fiber_home&) noexcept;
  };
  signal_delivery(fiber_home&, hub_part) noexcept {}
  void accept(pending_signal*) noexcept {}
  bool has_arrivals() const noexcept { return false; }
  void sort_arrivals() noexcept {}
  void run_handlers_due() noexcept {}
  void run_handlers_of_main() noexcept {}
  void let_masked_signals_in() noexcept {}
  std::uint64_t own_mask() noexcept { return 0; }
  void join(const signal_delivery&) noexcept {}
  void after_fork() noexcept {}
  void (*forward)(pending_signal*) noexcept = nullptr;
};

}  // namespace tendril::core
