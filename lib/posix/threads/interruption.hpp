// A thread that was interrupted by one of the runtime's own signals.
#pragma once

#include <ucontext.h>

#include "posix/common/cooperate.hpp"

namespace tendril::posix {

// One of the runtime's signals has interrupted the running thread outside the runtime. While this
// object lives, the thread is inside the runtime and may be switched away from: its handler's stack
// stays reserved for it. Handlers that become due run after the return, where the thread was
// interrupted (those of garbage collectors look for the end of the thread's stack).
class interruption {
 public:
  explicit interruption(ucontext_t& where) noexcept;
  ~interruption();
  interruption(const interruption&) = delete;
  // No memory for another signal stack: the thread must not be switched away from.
  bool failed() const noexcept { return failed_; }
  // Ends the thread here, if it is to be cancelled.
  void act_on_cancel() noexcept;

 private:
  ucontext_t& where_;
  core::own_stack* kept_ = nullptr;
  bool failed_ = false;
};

// Returns whether the program has a handler for the signal, which the kernel reaches through ours
// (set by signals/handlers.cpp with the first handler); null: no handlers.
extern std::atomic<bool (*)(int signal) noexcept> program_handles;

}  // namespace tendril::posix
