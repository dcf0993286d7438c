#include "failure.hpp"

#include <errno.h>
#include <string.h>
#include <unistd.h>

namespace tendril::launcher {

void print_message(const std::string& text) {
  std::string line = "tendril: ";
  for (unsigned char c : text) {
    constexpr char digits[] = "0123456789abcdef";
    if (c >= ' ' && c != 0x7f) line += (char)c;
    else line += {'\\', 'x', digits[c >> 4], digits[c & 15]};
  }
  line += '\n';
  [[maybe_unused]] ssize_t ignored = write(STDERR_FILENO, line.data(), line.size());
}

failure exec_failure(const std::string& subject, int error) {
  return {error == ENOENT ? not_found : cannot_execute, subject + ": " + strerror(error)};
}

}  // namespace tendril::launcher
