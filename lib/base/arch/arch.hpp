// Picks the CPU. Nothing outside this folder knows which one it is.
#pragma once

#if defined(__x86_64__)
#include "base/arch/x86_64.hpp"
#elif defined(__aarch64__)
#include "base/arch/aarch64.hpp"
#else
#error "Tendril runs on x86_64 and aarch64"
#endif
