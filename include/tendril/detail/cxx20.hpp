// Says in one sentence that a program is compiled for an older C++. Not for programs. Every header
// that a program may include begins with it.
#pragma once

#if !defined(__cplusplus) || __cplusplus < 202002L
#error Tendril needs C++20: compile with -std=c++20 or later (g++ 12, clang++ 14, or newer)
// Compilers go on after #error, with hundreds of errors about what follows. A header that does not
// exist ends the compilation here.
#include <tendril/needs_cplusplus_20>
#endif
