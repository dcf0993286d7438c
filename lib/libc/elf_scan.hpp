// What the program's code calls: by name, read from the symbol tables of what is loaded, or by
// itself.
#pragma once

namespace tendril::posix {

// Whether the program, or a library it has loaded (the C library and we aside), refers to the
// function `name`.
bool program_imports(const char* name) noexcept;
// The same of the program alone.
bool program_itself_imports(const char* name) noexcept;

// Whether the module (program or library) with the code at `address` makes futex system calls by
// instructions of its own (libgomp, Go's runtime), or has a system call stub for any number
// (emulators), which nobody can take over: what its threads wait for, only kernel threads can. In
// words; null: it does not.
const char* waits_inline(const void* address) noexcept;
// How many modules had been loaded ever (dlpi_adds) when that was last asked.
unsigned long long modules_seen() noexcept;

}  // namespace tendril::posix
