// Whether stacks may hold code, as GCC's nested functions and old assembly need it.
//
// The C library makes all stacks executable as soon as one loaded module asks for it (its
// PT_GNU_STACK is executable, or it has none): those of the main thread and of its own threads. It
// does not know ours.
#pragma once

#include <cstdint>

namespace tendril::core {

// As of the last look.
bool stacks_hold_code() noexcept;
// Looks again if a module was loaded since. Must not be called inside the runtime: it takes a lock
// of the dynamic loader.
void look_at_stack_protection() noexcept;
// Whether no module was loaded since the last look. `adds` is dlpi_adds, from dl_iterate_phdr(3).
bool stack_protection_is_current(unsigned long long adds) noexcept;

}  // namespace tendril::core
