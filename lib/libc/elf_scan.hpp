// What the program's code calls: by name, from the relocations of the loaded modules; and by system
// call instructions of its own.
#pragma once

namespace tendril::posix {

// Whether the program, or a library that it has loaded (other than the C library and this one),
// refers to the function `name`.
bool program_imports(const char* name) noexcept;
// The same for the program alone, without its libraries.
bool program_itself_imports(const char* name) noexcept;

// Whether the module (program or library) that contains `address` makes futex system calls by
// instructions of its own (libgomp, Go's runtime), or has a system call stub for any number
// (emulators). Such calls cannot be interposed, so its threads must stay kernel threads. Returns
// the reason in words, or null if it does neither.
const char* waits_inline(const void* address) noexcept;
// How many modules had ever been loaded (dlpi_adds) at the time of the last waits_inline().
unsigned long long modules_seen() noexcept;

}  // namespace tendril::posix
