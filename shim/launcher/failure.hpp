// What the launcher has to say on standard error, and the exit status when it gives up, which is
// env(1)'s.
#pragma once

#include <string>

namespace tendril::launcher {

enum status : int {
  own_failure = 125,     // the launcher itself: usage, or the preload library
  cannot_execute = 126,  // the program is there, but cannot be run
  not_found = 127,
};

struct failure {
  int status;
  std::string message;
};

// Writes the text on standard error as one line, whatever stands in the names of files.
void tell(const std::string& text);

// The status env(1) gives when exec fails with this errno.
failure exec_failure(const std::string& subject, int error);

}  // namespace tendril::launcher
