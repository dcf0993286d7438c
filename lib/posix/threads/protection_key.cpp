// pkey_alloc(2), see pkeys(7). A thread's rights to a key's memory are in a processor register,
// which pkey_set(3) writes without a system call. From the first key on, switches save and restore
// it for threads that are fibers.
#include <tendril/pthread.hpp>

#include "posix/threads/thread.hpp"

namespace tendril::posix {

int pkey_alloc(unsigned flags, unsigned rights) {
  int key = real.pkey_alloc(flags, rights);
  if (key < 0 || !arch::has_protection_keys || core::switches_carry_any(core::protection_rights))
    return key;
  if (core::current) {
    hub& h = my_hub();
    core::handlers_deferred quiet;
    // The other threads' rights: none to this key.
    std::uint32_t before = (arch::protection_rights() & ~(3u << 2 * key)) | 1u << 2 * key;
    for (fiber* f = h.fibers.front(); f; f = h.fibers.after(*f)) f->storage->protection = before;
  }
  core::switches_carry |= core::protection_rights;
  return key;
}

}  // namespace tendril::posix
