#include "fiber/thread_stacks.hpp"

#include <new>

#include "fiber/handlers_deferred.hpp"

namespace tendril::core::thread_stacks {

namespace {

// The pool is never destroyed: threads may outlive the destructors of static variables.
struct shared_pool {
  futex_lock lock;
  alignas(stack_pool) char memory[sizeof(stack_pool)] = {};
  bool begun = false;
  std::atomic<bool> allows_code{false};
  stack_pool& get() noexcept {
    auto* pool = reinterpret_cast<stack_pool*>(memory);
    if (!begun) new (pool) stack_pool, begun = true;
    return *pool;
  }
};
constinit shared_pool shared;

template <class F>
auto with_pool(F f) noexcept {
  signals_deferred quiet;
  futex_guard held(shared.lock);
  return f(shared.get());
}

}  // namespace

stack take(std::size_t size, std::size_t guard) noexcept {
  return with_pool([&](stack_pool& p) { return p.take_for_thread(size, guard); });
}
void give_back(const stack& s) noexcept {
  with_pool([&](stack_pool& p) { p.give_back(s); });
}
stack_pool::trimmed trim() noexcept {
  return with_pool([](stack_pool& p) { return p.trim(); });
}
void unmap_free(bool small_ones) noexcept {
  with_pool([&](stack_pool& p) { p.unmap_free(small_ones); });
}
void allow_code() noexcept {
  with_pool([](stack_pool& p) { p.allow_code(); });
  shared.allows_code = true;
}
bool allows_code() noexcept { return shared.allows_code.load(std::memory_order_relaxed); }
bool holds(const void* p) noexcept {
  return with_pool([&](stack_pool& pool) { return pool.holds(p); });
}

void lock_for_fork() noexcept { shared.lock.lock(); }
void unlock_after_fork() noexcept { shared.lock.unlock(); }

}  // namespace tendril::core::thread_stacks
