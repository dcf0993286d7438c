#include "descriptors.hpp"

namespace tendril::core {

constinit std::atomic<descriptor*> descriptors::chunks_[limit / per_chunk] = {};
constinit std::atomic<std::uint32_t> descriptors::sharing_{0};

descriptor* descriptors::add_chunk(int i) noexcept {
  void* p = sys::map(per_chunk * sizeof(descriptor));
  if (!p) return nullptr;
  descriptor* mine = static_cast<descriptor*>(p);
  descriptor* theirs = nullptr;
  if (chunks_[i].compare_exchange_strong(theirs, mine, std::memory_order_acq_rel)) return mine;
  sys::unmap(p, per_chunk * sizeof(descriptor));
  return theirs;
}

}  // namespace tendril::core
