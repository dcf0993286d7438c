#include "scheduler/kernel_threads.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/sys.hpp"

namespace tendril::core {

constinit kernel_threads known_threads;

bool kernel_threads::is_alone() const noexcept {
  if (hubs.load(std::memory_order_relaxed) > 1) return false;
  struct stat tasks;
  if (sys::call(SYS_newfstatat, AT_FDCWD, "/proc/self/task", &tasks, 0) < 0) return false;
  return long(tasks.st_nlink) - 2 - helpers.load(std::memory_order_relaxed) <= 1;
}

}  // namespace tendril::core
