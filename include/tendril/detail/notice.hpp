// Whether Tendril may say on standard error that a program, or some of its threads, run without it.
// Such a line is for a person who wonders. Scripts and logs compare what a program writes byte for
// byte, so they never get one.
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace tendril {

// To be told in any case: `tendril run --explain` sets it to 1.
inline constexpr char explain_variable[] = "TENDRIL_EXPLAIN";

inline bool notices_wanted() noexcept {
  const char* explain = getenv(explain_variable);
  if (explain && *explain) return strcmp(explain, "0") != 0;
  int saved = errno;
  bool terminal = isatty(STDERR_FILENO);
  errno = saved;
  return terminal;
}

}  // namespace tendril
