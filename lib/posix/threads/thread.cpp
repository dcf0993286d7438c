#include "posix/threads/thread.hpp"

#include <new>

#include "base/fork_handlers.hpp"
#include "base/futex_lock.hpp"

namespace tendril::posix {

constinit std::atomic<std::uint32_t> living{1};
constinit thread main_thread;
constinit std::atomic<bool> threads_begun{false};
constinit std::atomic<const thread_hooks*> hooks{nullptr};

namespace {
struct living_threads {
  core::spin_lock lock;
  thread* first = nullptr;
};
constinit living_threads all_living;
}  // namespace

thread* thread_of(pthread_t id) noexcept {
  if (!threads_begun.load(std::memory_order_relaxed)) return nullptr;
  return *core::tls::other(core::tls::pointer_of(reinterpret_cast<void*>(id)), &this_thread);
}

thread* thread_of(int tid) noexcept {
  if (!among_threads()) return nullptr;
  core::deferring_spin_guard held(all_living.lock);
  for (thread* t = all_living.first; t; t = t->next_living) {
    if (*core::tls::tid(t->runs->storage->pointer) == tid) return t;
  }
  return nullptr;
}

void count_living(thread& t) noexcept {
  core::deferring_spin_guard held(all_living.lock);
  t.next_living = all_living.first;
  if (all_living.first) all_living.first->previous_living = &t;
  t.previous_living = nullptr;
  all_living.first = &t;
}

void count_ended(thread& t) noexcept {
  core::deferring_spin_guard held(all_living.lock);
  (t.previous_living ? t.previous_living->next_living : all_living.first) = t.next_living;
  if (t.next_living) t.next_living->previous_living = t.previous_living;
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
  if (!threads_begun.load(std::memory_order_relaxed)) return;
  living = 1;
  new (&all_living) living_threads;
  if (thread* t = this_thread) count_living(*t);
  core::tls::other_tids();
}

}  // namespace tendril::posix
