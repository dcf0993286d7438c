#include "base/fork_handlers.hpp"

#include <pthread.h>

#include <atomic>

#include "base/sys.hpp"

namespace tendril::core {

namespace {

struct handlers {
  std::atomic<void (*)() noexcept> prepare, child;
};
constexpr int most = 16;
constinit handlers all[most];
constinit std::atomic<int> count{0};
constinit bool shares_descriptors = false;

template <class F>
void each(F f) noexcept {
  for (int i = 0; i < count.load(std::memory_order_acquire); i++) f(all[i]);
}

}  // namespace

void at_fork(void (*prepare)() noexcept, void (*child)() noexcept) noexcept {
  int i = count.fetch_add(1, std::memory_order_acq_rel);
  if (i >= most) sys::die("too many fork handlers");
  all[i].prepare = prepare;
  all[i].child = child;
  pthread_atfork(prepare, nullptr, child);
}

void prepare_for_child() noexcept {
  each([](handlers& h) {
    if (auto f = h.prepare.load()) f();
  });
}

void begin_child(bool shares) noexcept {
  shares_descriptors = shares;
  each([](handlers& h) {
    if (auto f = h.child.load()) f();
  });
  shares_descriptors = false;
}

bool child_shares_descriptors() noexcept { return shares_descriptors; }

}  // namespace tendril::core
