// Whether Tendril may write on standard error that a program, or some of its threads, run without
// it. Such a line is for a person at a terminal. Scripts and logs may compare a program's output
// byte by byte, so they never get it.
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace tendril {

// Requests these lines in any case: `tendril run --explain` sets the variable to 1.
inline constexpr char explain_variable[] = "TENDRIL_EXPLAIN";

inline bool explanations_wanted() noexcept {
  const char* explain = getenv(explain_variable);
  if (explain && *explain) return strcmp(explain, "0") != 0;
  int saved = errno;
  bool terminal = isatty(STDERR_FILENO);
  errno = saved;
  return terminal;
}

}  // namespace tendril
