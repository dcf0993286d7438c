#include "posix/common/program_memory.hpp"

namespace tendril::posix {

bool copy_out(void* to, const void* from, std::size_t n) noexcept {
  iovec mine{const_cast<void*>(from), n}, theirs{to, n};
  long r = sys::call(SYS_process_vm_writev, sys::getpid(), &mine, 1, &theirs, 1, 0);
  if (r >= 0) return r == long(n);
  if (r == -14 /* EFAULT */) return false;
  memcpy(to, from, n);  // process_vm_writev is forbidden here (seccomp): a bad pointer crashes
  return true;
}

bool copy_text_in(char* to, const char* from, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; i++) {
    if ((i == 0 || reinterpret_cast<std::uintptr_t>(from + i) % 4096 == 0) &&
        !sys::readable(from + i, 1))
      return false;
    to[i] = from[i];
    if (!to[i]) break;
  }
  return true;
}

}  // namespace tendril::posix
