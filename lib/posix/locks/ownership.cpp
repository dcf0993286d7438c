#include "posix/locks/ownership.hpp"

namespace tendril::posix {

void check_may_wait() noexcept {
  fiber* self = core::current;
  if (self && self->extra.forbidden)
    sys::die(self->extra.forbidden, " cannot wait for a lock that another fiber holds");
}

}  // namespace tendril::posix
