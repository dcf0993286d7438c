// The launcher's messages on standard error, and its exit status when it fails, which is env(1)'s.
#pragma once

#include <string>

namespace tendril::launcher {

enum status : int {
  own_failure = 125,     // the launcher itself failed: usage, or the preload library
  cannot_execute = 126,  // the program exists but cannot be executed
  not_found = 127,
};

struct failure {
  int status;
  std::string message;
};

// Writes the text to standard error as one line; control characters in file names are escaped.
void print_message(const std::string& text);

// The failure with the status that env(1) has when exec fails with this errno.
failure exec_failure(const std::string& subject, int error);

}  // namespace tendril::launcher
