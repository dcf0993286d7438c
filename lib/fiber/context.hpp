// The saved state of a fiber that is not running.
//
// A jump saves and restores the registers that the ABI says a call preserves (x86_64: rbx, rbp, r12
// to r15, the stack pointer, the control words of the floating-point units; aarch64: x19 to x30, d8
// to d15). It does not save the signal mask, the thread pointer, the floating-point status flags,
// errno, or the C++ exception state: fiber.hpp carries what belongs to a fiber, or to a thread.
#pragma once

#include <cstddef>
#include <tendril/detail/jump.hpp>

#include "base/arch/arch.hpp"
#include "base/sanitize.hpp"
#include "base/sys.hpp"

namespace tendril::core {

// What the sanitizers need for each fiber. (The saved stack pointer is fiber_head::sp.)
struct context {
#ifdef TENDRIL_ASAN
  void* fake_stack = nullptr;
  const void* stack_bottom = nullptr;
  std::size_t stack_size = 0;
#endif
#ifdef TENDRIL_TSAN
  void* tsan = nullptr;
#endif
};

using context_entry = void (*)(switch_result);

// Makes a context that, at the first jump to it, calls `entry` on the stack [bottom, top). Returns
// its stack pointer.
inline void* make_context([[maybe_unused]] context& c, void* bottom, void* top,
                          context_entry entry) noexcept {
  const std::size_t size = std::size_t(static_cast<char*>(top) - static_cast<char*>(bottom));
#ifdef TENDRIL_ASAN
  c.stack_bottom = bottom;
  c.stack_size = size;
#endif
#ifdef TENDRIL_TSAN
  c.tsan = __tsan_create_fiber(0);
#endif
  return arch::make_context(top, size, entry);
}

inline void destroy_context([[maybe_unused]] context& c) noexcept {
#ifdef TENDRIL_TSAN
  if (c.tsan) __tsan_destroy_fiber(c.tsan);
  c.tsan = nullptr;
#endif
}

// Leaves `from`, which will never run again if `ending`, and continues `to`, whose stack pointer is
// `sp` and which receives `cargo`. Returns when a fiber jumps back: with its cargo, and where it
// was suspended.
[[gnu::always_inline]] inline switch_result jump([[maybe_unused]] context& from,
                                                 [[maybe_unused]] context& to, void* sp,
                                                 void* cargo,
                                                 [[maybe_unused]] bool ending) noexcept {
#ifdef TENDRIL_ASAN
  __sanitizer_start_switch_fiber(ending ? nullptr : &from.fake_stack, to.stack_bottom,
                                 to.stack_size);
#endif
#ifdef TENDRIL_TSAN
  if (!from.tsan) from.tsan = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(to.tsan, 0);
#endif
  auto arrived = jump(sp, cargo);
#ifdef TENDRIL_ASAN
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
  return arrived;
}

// The first thing that a new context does: informs the sanitizers where control came from.
inline void arrived_first([[maybe_unused]] context& from) noexcept {
#ifdef TENDRIL_ASAN
  // The first fiber that a kernel thread's own stack switches to learns that stack's bounds.
  const void* bottom;
  std::size_t size;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
  if (!from.stack_bottom) {
    from.stack_bottom = bottom;
    from.stack_size = size;
    // Memory that the main thread's stack points to is no leak, even if a fiber calls exit().
    if (sys::gettid() == sys::getpid()) __lsan_register_root_region(bottom, size);
  }
#endif
}

}  // namespace tendril::core
