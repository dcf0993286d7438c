#include "scheduler/signal_stacks.hpp"

#include <errno.h>
#include <sys/auxv.h>

#include "base/signals_blocked.hpp"

namespace tendril::core {

// Lies at the upper end of its stack.
struct own_stack {
  own_stack* next;
  char* base;
};

namespace {

constexpr unsigned most_free = 16;

// Large enough for handlers of the program, which may have to run there (see hub::poll_events).
// Memory is allocated only for the pages that are used.
std::size_t whole_size() noexcept {
  static const std::size_t size = (getauxval(AT_MINSIGSTKSZ) + 64 * 1024 + 4095) / 4096 * 4096;
  return size;
}

// The kernel refuses while the stack pointer is on the alternate stack that it knows, so the call
// is made with the stack pointer on the new one.
bool set_in_kernel(const stack_t& stack) noexcept {
  if (sys::is_refused(SYS_sigaltstack)) return false;
  long r = sys::call(SYS_sigaltstack, &stack, 0);
  if (r != -EPERM) return r == 0 || !sys::turns_out_refused(SYS_sigaltstack);
  all_signals_blocked quiet;
  r = arch::system_call_on(static_cast<char*>(stack.ss_sp) + stack.ss_size - 64, SYS_sigaltstack,
                           long(&stack));
  return r == 0 || !sys::turns_out_refused(SYS_sigaltstack);
}

}  // namespace

bool signal_stacks::holds(const void* p) const noexcept {
  return set_ && p >= set_->base && p < static_cast<const void*>(set_);
}

stack_t signal_stacks::kernels() const noexcept {
  if (!set_) return {nullptr, SS_DISABLE, 0};
  return {set_->base, 0, std::size_t(reinterpret_cast<char*>(set_) - set_->base)};
}

own_stack* signal_stacks::take() noexcept {
  if (own_stack* s = free_) {
    free_ = s->next;
    count_--;
    return s;
  }
  char* base = static_cast<char*>(sys::map(whole_size()));
  if (!base) return nullptr;
  own_stack* s = reinterpret_cast<own_stack*>(base + whole_size() - 64);
  s->base = base;
  return s;
}

void signal_stacks::give_back(own_stack* s) noexcept {
  if (count_ >= most_free) return sys::unmap(s->base, whole_size());
  s->next = free_;
  free_ = s;
  count_++;
}

bool signal_stacks::set() noexcept {
  if (set_) return set_in_kernel(kernels());
  if (!(set_ = take())) return false;
  if (set_in_kernel(kernels())) return true;
  give_back(set_);
  set_ = nullptr;
  return false;
}

own_stack* signal_stacks::keep(const void* frame, bool& failed) noexcept {
  own_stack* kept = holds(frame) ? set_ : nullptr;
  own_stack* other = kept ? take() : nullptr;
  failed = kept && !other;
  if (failed) return nullptr;
  if (kept) set_ = other;
  // Otherwise nothing runs on the stack that is set, whatever stack the kernel knows.
  failed = !set();
  if (!failed || !kept) return kept;
  set_ = kept;
  give_back(other);
  return nullptr;
}

void signal_stacks::keep_no_longer(own_stack* kept, stack_t& after) noexcept {
  if (kept) {
    give_back(set_);
    set_ = kept;
  } else {
    after = kernels();
  }
}

}  // namespace tendril::core
