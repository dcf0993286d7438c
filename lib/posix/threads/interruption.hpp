// A thread that is interrupted by a signal of the runtime's own.
#pragma once

#include <ucontext.h>

#include "posix/common/cooperate.hpp"

namespace tendril::posix {

// A signal of the runtime's own has interrupted the running thread outside of the runtime. While
// this lives, the thread is inside it, and may be left: the stack that its handler stands on stays
// its own. Handlers that have become due run where it was interrupted, after the return (garbage
// collectors ask in theirs where the thread's stack ends).
class interruption {
 public:
  explicit interruption(ucontext_t& where) noexcept;
  ~interruption();
  interruption(const interruption&) = delete;
  // There is no memory for another stack: the thread must not be left.
  bool failed() const noexcept { return failed_; }
  // Ends the thread here, if it is to be cancelled.
  void act_on_cancel() noexcept;

 private:
  hub& hub_;
  ucontext_t& where_;
  core::own_stack* kept_ = nullptr;
  bool failed_ = false;
};

// Whether the kernel has a handler of the program's for the signal, behind ours
// (signals/handlers.cpp, which sets it with the first); null: for none.
extern std::atomic<bool (*)(int signal) noexcept> program_handles;

}  // namespace tendril::posix
