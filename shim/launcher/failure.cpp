#include "failure.hpp"

#include <errno.h>
#include <string.h>

namespace tendril::launcher {

failure exec_failure(const std::string& subject, int error) {
  return {error == ENOENT ? not_found : cannot_execute, subject + ": " + strerror(error)};
}

}  // namespace tendril::launcher
