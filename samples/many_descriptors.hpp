// For samples that hold many connections.
#pragma once

#include <sys/resource.h>

// Each connection needs a descriptor: raise the limit as far as is possible without root.
inline void allow_many_descriptors() {
  rlimit limit;
  if (::getrlimit(RLIMIT_NOFILE, &limit) < 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}
