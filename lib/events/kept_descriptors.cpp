#include "events/kept_descriptors.hpp"

#include <new>

#include "base/sys.hpp"
#include "events/own_descriptors.hpp"

namespace tendril::core {

kept_descriptor* kept_descriptors::keep(int fd, const void* frame) noexcept {
  // A wait of this fiber whose frame is not above this one's has been left by siglongjmp. (If this
  // is a handler on an alternate stack, that wait may go on: then it finds its descriptor gone, and
  // opens another.)
  for (kept_descriptor *k = kept_.front(), *next; k; k = next) {
    next = kept_.after(*k);
    if (k->who == current && k->frame <= frame) drop(*k);
  }
  if (!free_.front()) {
    constexpr std::size_t size = 4096;
    auto* more = static_cast<kept_descriptor*>(sys::map(size));
    for (std::size_t i = 0; more && i < size / sizeof *more; i++)
      free_.push_back(*new (more + i) kept_descriptor);
  }
  kept_descriptor* k = free_.front();
  if (!k) {
    sys::close(fd);
    return nullptr;
  }
  k->fd = own_descriptors::keep(fd, k, false);
  if (k->fd < 0) return nullptr;
  k->who = current;
  k->frame = frame;
  k->unlink();
  kept_.push_back(*k);
  return k;
}

void kept_descriptors::drop(kept_descriptor& k) noexcept {
  k.unlink();
  k.who = nullptr;
  free_.push_back(k);
  if (!is_there(k)) return;
  forget_(k.fd);
  own_descriptors::release(k.fd, &k);
}

bool kept_descriptors::is_there(const kept_descriptor& k) noexcept {
  return own_descriptors::is_kept(k.fd, &k);
}

void kept_descriptors::close_inherited() noexcept {
  for (kept_descriptor* k = kept_.front(); k; k = kept_.after(*k))
    own_descriptors::release(k->fd, k);
}

}  // namespace tendril::core
