#include "base/fork_handlers.hpp"

#include <pthread.h>

namespace tendril::core {

namespace {

using handler = void (*)() noexcept;
constinit handler prepares = nullptr, continues = nullptr, begins = nullptr;
constinit bool shares_descriptors = false;

}  // namespace

void at_fork(handler prepare, handler parent, handler child) noexcept {
  prepares = prepare;
  continues = parent;
  begins = child;
  pthread_atfork(prepare, parent, child);
}

void prepare_for_child() noexcept {
  if (prepares) prepares();
}

void parent_continues() noexcept {
  if (continues) continues();
}

void begin_child(bool shares) noexcept {
  shares_descriptors = shares;
  if (begins) begins();
  shares_descriptors = false;
}

bool child_shares_descriptors() noexcept { return shares_descriptors; }

}  // namespace tendril::core
