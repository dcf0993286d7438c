// Whether executing a file raises privileges. The kernel then tells the dynamic loader so
// (AT_SECURE), and the loader ignores LD_PRELOAD.
#pragma once

#include <sys/stat.h>

#include <string>

namespace tendril::launcher {

// What raises them; empty if nothing does, for this caller.
std::string privilege_raised(int fd, const struct stat& st);

}  // namespace tendril::launcher
