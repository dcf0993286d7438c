// Whether executing a file raises privileges. If it does, the kernel sets AT_SECURE, and the
// dynamic loader ignores LD_PRELOAD.
#pragma once

#include <sys/stat.h>

#include <string>

namespace tendril::launcher {

// How executing the file would raise this caller's privileges; empty if it would not.
std::string privilege_raised(int fd, const struct stat& st);

}  // namespace tendril::launcher
