// What the program's code calls by name, read from the symbol tables of what is loaded.
#pragma once

namespace tendril::posix {

// Whether the program, or a library it has loaded (the C library and we aside), refers to the function `name`.
bool program_imports(const char* name) noexcept;

}  // namespace tendril::posix
