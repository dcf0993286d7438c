#include "events/descriptors.hpp"

#include <dlfcn.h>

#include "base/symbols.hpp"

// Defined by the shim.
extern "C" __attribute__((weak)) const char tendril_shim;

namespace tendril::core {

constinit std::atomic<descriptor*> descriptors::chunks_[limit / per_chunk] = {};
constinit std::atomic<std::uint32_t> descriptors::sharing_{0};
constinit std::atomic<std::uint32_t> descriptors::modes_{0};

constinit std::atomic<bool> descriptors::shim_is_first_{false};

void descriptors::look_for_shim() noexcept {
  static std::atomic<bool> looked{false};
  if (!&tendril_shim || looked.exchange(true)) return;
  Dl_info shim, first;
  void* close = find_symbol("close");
  shim_is_first_ = close && dladdr(close, &first) && dladdr(&tendril_shim, &shim) &&
                   first.dli_fbase == shim.dli_fbase;
}

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
