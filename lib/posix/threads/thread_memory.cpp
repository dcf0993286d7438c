#include "posix/threads/thread_memory.hpp"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <new>

#include "base/futex_lock.hpp"
#include "fiber/thread_stacks.hpp"

namespace tendril::posix {

namespace {

constexpr std::size_t most_idle = 256;
// Idle stacks: as many of the default size, 8 MB; if address space is limited, as much as the C
// library keeps.
constexpr std::size_t most_idle_bytes = most_idle * ((8 << 20) + core::page);
constexpr std::size_t most_limited_bytes = 40 << 20;

struct idle_threads {
  core::futex_lock lock;
  thread* first = nullptr;
  std::size_t count = 0;
  std::size_t bytes = 0;
  bool too_many(bool limited) const noexcept {
    return count > most_idle || bytes > (limited ? most_limited_bytes : most_idle_bytes);
  }
  std::atomic<std::size_t> beside = 0;  // the number of idle threads on the program's stacks
};
constinit idle_threads idle;

constexpr std::size_t whole_lines(std::size_t n) noexcept { return (n + 63) / 64 * 64; }
constexpr std::size_t fiber_offset = whole_lines(sizeof(thread));
constexpr std::size_t storage_offset = fiber_offset + whole_lines(core::fiber_size(sizeof(void*)));
std::size_t top_size() noexcept { return storage_offset + core::tls::block_size(); }
}  // namespace

void* fiber_place(thread* t) noexcept { return reinterpret_cast<char*>(t) + fiber_offset; }

namespace {

void* storage_place(thread* t) noexcept { return reinterpret_cast<char*>(t) + storage_offset; }

// Removes and returns the idle thread that was added last, of those for which `suits` is true;
// null: none.
template <class F>
thread* take_idle(F suits) noexcept {
  core::signals_deferred quiet;
  core::futex_guard guard(idle.lock);
  for (thread** t = &idle.first; *t; t = &(*t)->next_idle) {
    thread* found = *t;
    if (!suits(*found)) continue;
    *t = found->next_idle;
    idle.count--;
    idle.bytes -= found->stack.size + found->stack.guard;
    if (found->allocated) idle.beside--;
    return found;
  }
  return nullptr;
}

void keep_idle(thread* t) noexcept {
  core::signals_deferred quiet;
  core::futex_guard guard(idle.lock);
  t->next_idle = idle.first;
  idle.first = t;
  idle.count++;
  idle.bytes += t->stack.size + t->stack.guard;
  if (t->allocated) idle.beside++;
}

thread* object_at(void* place) noexcept {
  thread* t = new (place) thread;
  void* pointer = core::tls::make(storage_place(t));
  if (!pointer) return nullptr;
  t->storage.pointer = pointer;
  return t;
}

// Makes an idle thread new, as object_at() does.
thread* renewed(thread* t) noexcept {
  core::stack s = t->stack;
  void* pointer = t->storage.pointer;
  free(t->processors);
  free(t->storage.identity);
  new (t) thread;
  t->stack = s;
  t->storage.pointer = pointer;
  return core::tls::renew(pointer) ? t : nullptr;
}

// The room that a stack has above the size that the program asked for. A small stack must have as
// much room for calls as natively, so the thread's object and storage lie beyond that size; but the
// first frame is within it. In a larger stack the few KB do not matter: the thread-local storage
// then lies where garbage collectors look for it, and touches no more pages than natively.
std::size_t room_above(std::size_t size) noexcept {
  constexpr std::size_t small = 1 << 20;
  return size < small ? top_size() / core::page * core::page : 0;
}

}  // namespace

thread* make_on_stack(std::size_t asked, std::size_t guard) noexcept {
  std::size_t room = room_above(asked), size = core::whole_pages(asked) + room;
  // At least one guard page, even if none was asked for: another thread's stack is below.
  guard = guard ? core::whole_pages(guard) : core::page;
  if (thread* t = take_idle(
          [&](const thread& i) { return i.stack.size == size && i.stack.guard == guard; })) {
    if (thread* again = renewed(t)) return again;
    core::thread_stacks::give_back(t->stack);
    return nullptr;
  }
  core::stack s = core::thread_stacks::take(size, guard);
  if (!s.size) return nullptr;
  // Use half of the pool's offset from the end (which spreads stacks over cache sets), so that a
  // sleeping thread needs only two pages.
  char* end = reinterpret_cast<char*>(s.bottom() + asked + room);
  auto top = reinterpret_cast<std::uintptr_t>(end - (s.end() - s.top) / 2);
  char* place = reinterpret_cast<char*>((top - top_size()) & ~std::uintptr_t(63));
  if (s.used) memset(place, 0, top_size());
  thread* t = object_at(place);
  if (!t) {
    core::thread_stacks::give_back(s);
    return nullptr;
  }
  t->stack = s;
  return t;
}

thread* make_beside(void* stack, std::size_t size) noexcept {
  void* place = nullptr;
  if (posix_memalign(&place, 64, top_size()) != 0) return nullptr;
  memset(place, 0, top_size());
  thread* t = object_at(place);
  if (!t) {
    free(place);
    return nullptr;
  }
  t->allocated = place;
  t->stack.base = static_cast<std::byte*>(stack);
  t->stack.top = static_cast<std::byte*>(stack) + size;
  return t;
}

void recycle(thread* t) noexcept {
  if (!t->is_fiber()) return;  // the main thread
  std::uint32_t before =
      t->life.fetch_or(thread::ended | thread::joined, std::memory_order_acq_rel);
  // otherwise the fiber still has references, and fiber_is_gone() keeps it
  if (before & thread::free_of_fiber) keep_idle(t);
}
void fiber_is_gone(void* payload) noexcept {
  thread* t = *static_cast<thread**>(payload);
  if (t->life.fetch_or(thread::free_of_fiber, std::memory_order_acq_rel) & thread::joined)
    keep_idle(t);
}

void tidy_up() noexcept {
  while (idle.beside.load(std::memory_order_relaxed) != 0) {
    thread* t = take_idle([](const thread& i) { return i.allocated != nullptr; });
    if (!t) break;
    core::tls::drop(t->storage.pointer);
    free(t->processors);
    free(t->storage.identity);
    free(t->allocated);
  }
  if (!idle.too_many(true)) return;
  rlimit limit;
  bool limited = sys::call_if_allowed(SYS_prlimit64, 0, RLIMIT_AS, 0, &limit) == 0 &&
                 limit.rlim_cur != RLIM_INFINITY;
  if (!idle.too_many(limited)) return;
  while (idle.too_many(limited)) {
    thread* surplus = take_idle([](const thread& i) { return !i.allocated; });
    if (!surplus) break;
    core::stack s = surplus->stack;
    free(surplus->processors);
    free(surplus->storage.identity);
    core::tls::drop(surplus->storage.pointer);
    core::thread_stacks::give_back(s);
    if (core::current) my_hub().trim.note_left();
  }
  // Unmap at once, as natively: with a limit also small stacks; without one those are left to the
  // next trim().
  core::thread_stacks::unmap_free(limited);
}

core::stack_pool::trimmed trim_idle() noexcept {
  using core::stack_pool;
  auto pool_is = core::thread_stacks::trim();
  if (pool_is == stack_pool::trimmed::partly) return pool_is;
  core::futex_guard guard(idle.lock);
  bool more = pool_is != stack_pool::trimmed::nothing_left;
  for (thread* t = idle.first; t; t = t->next_idle) {
    if (t->allocated || t->idle_for == thread::trimmed) continue;
    if (t->idle_for == thread::one_round) {
      auto used = reinterpret_cast<std::uintptr_t>(t) / core::page * core::page;
      auto bottom = reinterpret_cast<std::uintptr_t>(t->stack.bottom());
      sys::advise(t->stack.bottom(), used - bottom, MADV_DONTNEED);
      t->idle_for = thread::trimmed;
    } else {
      t->idle_for = thread::one_round;
      more = true;
    }
  }
  return more ? stack_pool::trimmed::wholly : stack_pool::trimmed::nothing_left;
}

void lock_threads_for_fork() noexcept { idle.lock.lock(); }
void unlock_threads_after_fork() noexcept { idle.lock.unlock(); }

void thread_memory_after_fork() noexcept {
  // A kernel thread without fibers forks without the lock: if another one was changing the list
  // meanwhile, drop the list.
  if (idle.lock.is_held()) new (&idle) idle_threads;
}

}  // namespace tendril::posix
