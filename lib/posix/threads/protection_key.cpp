// pkey_alloc(2), see pkeys(7). What a thread may do with a key's memory stands in a register of the
// processor's, which pkey_set(3) writes without asking anybody: from the first key on it travels
// with the threads that are fibers.
#include <tendril/pthread.hpp>

#include "posix/threads/thread.hpp"

namespace tendril::posix {

int pkey_alloc(unsigned flags, unsigned rights) {
  int key = real.pkey_alloc(flags, rights);
  if (key < 0 || !arch::has_protection_keys || core::switches_carry_any(core::protection_rights))
    return key;
  if (core::current) {
    hub& h = my_hub();
    core::handlers_deferred quiet(h);
    // What the others have: no rights to this key.
    std::uint32_t before = (arch::protection_rights() & ~(3u << 2 * key)) | 1u << 2 * key;
    for (fiber* f = h.fibers.front(); f; f = h.fibers.after(*f)) f->storage->protection = before;
  }
  core::switches_carry |= core::protection_rights;
  return key;
}

}  // namespace tendril::posix
