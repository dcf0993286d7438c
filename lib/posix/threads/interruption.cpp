#include "posix/threads/interruption.hpp"

#include <string.h>

namespace tendril::posix {

constinit std::atomic<bool (*)(int) noexcept> program_handles{nullptr};

interruption::interruption(ucontext_t& where) noexcept : where_(where) {
  core::current->enter_runtime();
  kept_ = my_hub().signals.own_stacks.keep(&where, failed_);
  std::uint64_t mask = core::mask_of(where.uc_sigmask);
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, 0, 8);
}

interruption::~interruption() {
  std::uint64_t all = ~0ULL, mask = core::mask_of(where_.uc_sigmask);
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &all, 0, 8);
  // The thread may have moved to another hub meanwhile.
  core::signal_delivery& signals = my_hub().signals;
  if (!failed_) signals.own_stacks.keep_no_longer(kept_, where_.uc_stack);
  auto* has_handler = program_handles.load(std::memory_order_acquire);
  signals.deliver_on_return(
      mask, has_handler ? has_handler : [](int) noexcept { return false; });
  memcpy(&where_.uc_sigmask, &mask, sizeof mask);
  core::current->leave_runtime_quietly();
}

void interruption::act_on_cancel() noexcept {
  core::signal_state& s = core::current->storage->signals;
  if (s.left) my_hub().signals.own_stacks.give_back(s.left);
  s.left = kept_;
  core::current->leave_runtime_quietly();
  posix::act_on_cancel();
  core::current->enter_runtime();
  s.left = nullptr;
}

}  // namespace tendril::posix
