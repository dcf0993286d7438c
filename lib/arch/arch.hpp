// Picks the CPU. Nothing outside this folder knows which one it is.
#pragma once

namespace tendril::arch {

// What Boost.Context's jump_fcontext brings back: where the one stands that jumped here, and what it sent.
struct jumped {
  void* from;
  void* cargo;
};
jumped jump_fcontext(void* to, void* cargo) noexcept __asm__("jump_fcontext");

}  // namespace tendril::arch

#if defined(__x86_64__)
#include "x86_64.hpp"
#elif defined(__aarch64__)
#include "aarch64.hpp"
#else
#error "Tendril runs on x86_64 and aarch64"
#endif
