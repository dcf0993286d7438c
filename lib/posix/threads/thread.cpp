#include "posix/threads/thread.hpp"

#include "base/fork_handlers.hpp"

namespace tendril::posix {

constinit std::atomic<std::uint32_t> living{1};
constinit thread main_thread;
constinit std::atomic<hub*> threads_home{nullptr};
constinit std::atomic<const thread_hooks*> hooks{nullptr};

thread* thread_of(pthread_t id) noexcept {
  if (!threads_home.load(std::memory_order_relaxed)) return nullptr;
  return *core::tls::other(core::tls::pointer_of(reinterpret_cast<void*>(id)), &this_thread);
}

thread* thread_of(int tid) noexcept {
  hub* h = threads_home.load(std::memory_order_relaxed);
  if (!h || !core::current || core::current->home != h) return nullptr;
  core::handlers_deferred quiet;
  for (fiber* f = h->fibers.front(); f; f = h->fibers.after(*f)) {
    if (f->storage->signals.owner != f || f->storage->signals.gone ||
        f->state == core::fiber_status::finished)
      continue;
    if (*core::tls::tid(f->storage->pointer) == tid)
      return *core::tls::other(f->storage->pointer, &this_thread);
  }
  return nullptr;
}

void bare_child_begins(bool shares_descriptors) noexcept {
  core::begin_child(shares_descriptors);
  renumbered = arch::thread_pointer();
}

pid_t gettid() {
  return this_thread && renumbered != arch::thread_pointer() ? own_tid() : pid_t(sys::gettid());
}

void threads_after_fork() noexcept {
  known_tid = 0;
  renumbered = nullptr;
  if (!threads_home.load(std::memory_order_relaxed)) return;
  living = 1;
  core::tls::other_tids();
}

}  // namespace tendril::posix
