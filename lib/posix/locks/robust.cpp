// The word of a robust mutex holds the number of the kernel thread that owns it, and a bit for
// waiters. When a kernel thread ends in any way, the kernel walks a list in the thread's memory and
// marks the words that hold its number (robust_list(7) in the kernel's documentation,
// set_robust_list(2)). So all mutexes that the fibers of a kernel thread hold are in that thread's
// list, under its number. The owning fiber is in a field next to it that the C library does not use
// for such mutexes. When only that fiber's thread ends, we do what the kernel would do.
//
// The kernel wakes waiters as for a mutex that processes share, so all waiters wait in that way. It
// visits at most 2,048 entries, the last ones locked.
#include "posix/locks/robust.hpp"

#include <limits.h>

#include "posix/common/kernel_futex.hpp"
#include "posix/locks/ownership.hpp"
#include "posix/threads/preempt.hpp"

namespace tendril::posix::robust {

namespace {

// Special values of the C library's owner field.
constexpr int inconsistent = INT_MAX, not_recoverable = INT_MAX - 1;

using word_type = std::atomic<std::uint32_t>;
word_type& word(pthread_mutex_t* m) noexcept {
  return *reinterpret_cast<word_type*>(&m->__data.__lock);
}

// lock_owner() of the fiber that holds the mutex. 0: the C library locked it.
using field [[gnu::may_alias]] = std::uint32_t;
field& holder(pthread_mutex_t* m) noexcept { return *reinterpret_cast<field*>(&m->__data.__spins); }
static_assert(offsetof(pthread_mutex_t, __data.__list) -
                  offsetof(pthread_mutex_t, __data.__spins) ==
              sizeof(std::uint32_t));

// A link of the C library's list; a list's head begins with one. `next` points to the next link's
// `next`; its lowest bit is set for a mutex that inherits priority.
struct [[gnu::may_alias]] link {
  link* prev;
  std::uintptr_t next;

  static link* of(std::uintptr_t next) noexcept {
    return reinterpret_cast<link*>((next & ~std::uintptr_t(1)) - offsetof(link, next));
  }
};
struct head : link {
  long futex_offset;
  // the mutex that is being locked or unlocked: it may be held and not listed, or listed and not
  // held
  void* volatile pending;

  static head* at_next(void* next) noexcept {
    return reinterpret_cast<head*>(static_cast<char*>(next) - offsetof(link, next));
  }
  bool is_end(std::uintptr_t next_of_it) const noexcept {
    return next_of_it == reinterpret_cast<std::uintptr_t>(&next);
  }
};
link& link_of(pthread_mutex_t* m) noexcept { return *reinterpret_cast<link*>(&m->__data.__list); }
pthread_mutex_t* mutex_of(link* l) noexcept {
  return reinterpret_cast<pthread_mutex_t*>(reinterpret_cast<char*>(l) -
                                            offsetof(pthread_mutex_t, __data.__list));
}

// This kernel thread's list, registered with the kernel. In a child of fork it is empty, and must
// be registered again: the C library has registered the forking thread's own list.
head& list(hub& h) noexcept {
  if (h.robust_list && h.robust_pid == h.pid) [[likely]]
    return *static_cast<head*>(h.robust_list);
  void* known = h.robust_list ? &static_cast<head*>(h.robust_list)->next
                              : core::tls::robust_list(h.storage.pointer);
  std::size_t size = sizeof(head) - offsetof(link, next);
  if (!known) sys::call(SYS_get_robust_list, 0, &known, &size);
  head& l = *head::at_next(known);
  if (h.robust_list) {
    l.next = reinterpret_cast<std::uintptr_t>(&l.next);
    l.prev = &l;
    l.pending = nullptr;
  }
  sys::call(SYS_set_robust_list, known, size);
  h.robust_list = &l;
  h.robust_pid = h.pid;
  return l;
}

// While it lives, the kernel also checks this mutex if the kernel thread ends.
class in_progress {
 public:
  in_progress(head& l, pthread_mutex_t* m) noexcept : list_(l) {
    l.pending = &link_of(m).next;
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }
  ~in_progress() {
    std::atomic_signal_fence(std::memory_order_seq_cst);
    list_.pending = nullptr;
  }
  in_progress(const in_progress&) = delete;

 private:
  head& list_;
};

void enlist(head& l, pthread_mutex_t* m) noexcept {
  link& mine = link_of(m);
  link::of(l.next)->prev = &mine;
  mine.next = l.next;
  mine.prev = &l;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  l.next = reinterpret_cast<std::uintptr_t>(&mine.next);
  core::current->storage->bound++;
}
void delist(pthread_mutex_t* m) noexcept {
  link& mine = link_of(m);
  link::of(mine.next)->prev = mine.prev;
  mine.prev->next = mine.next;
  mine = {};
  core::current->storage->bound--;
}

int type_of(const pthread_mutex_t* m) noexcept { return m->__data.__kind & 3; }

bool is_mine(hub& h, pthread_mutex_t* m, std::uint32_t held) noexcept {
  if ((held & FUTEX_TID_MASK) != std::uint32_t(h.tid)) return false;
  std::uint32_t me = std::uint32_t(lock_owner());
  return holder(m) == me || (holder(m) == 0 && me == std::uint32_t(h.tid));
}

void set_free(pthread_mutex_t* m) noexcept {
  if (word(m).exchange(0, std::memory_order_release) & FUTEX_WAITERS)
    kernel_futex::wake(&word(m), 1);
}

constexpr int is_held = -1;

// Tries to lock: 0, EOWNERDEAD, ENOTRECOVERABLE; or is_held, with the word in `held`. `waiters`:
// the waiters' bit to set, if this caller may not be the only waiter.
int take(hub& h, pthread_mutex_t* m, std::uint32_t waiters, std::uint32_t& held) noexcept {
  core::handlers_deferred quiet;
  head& l = list(h);
  in_progress now(l, m);
  held = word(m).load(std::memory_order_relaxed);
  bool died;
  do {
    died = held & FUTEX_OWNER_DIED;
    if (held != 0 && !died) return is_held;
  } while (!word(m).compare_exchange_weak(held,
                                          std::uint32_t(h.tid) | (held & FUTEX_WAITERS) | waiters,
                                          std::memory_order_acquire, std::memory_order_relaxed));
  if (!died && m->__data.__owner == not_recoverable) {
    m->__data.__count = 0;
    set_free(m);
    return ENOTRECOVERABLE;
  }
  m->__data.__count = 1;
  holder(m) = std::uint32_t(lock_owner());
  if (!died) m->__data.__nusers++;  // a dead owner is still counted
  m->__data.__owner = died ? inconsistent : lock_owner();
  enlist(l, m);
  return died ? EOWNERDEAD : 0;
}

}  // namespace

bool here() noexcept { return ours() && core::current && in_hubs_process(); }

int lock(pthread_mutex_t* m, deadline until, bool only_tries) noexcept {
  hub& h = my_hub();
  for (std::uint32_t waiters = 0;;) {
    std::uint32_t held;
    int r = take(h, m, waiters, held);
    if (r != is_held) return r;
    if (is_mine(h, m, held)) {
      if (type_of(m) == PTHREAD_MUTEX_ERRORCHECK_NP) return EDEADLK;
      if (type_of(m) == PTHREAD_MUTEX_RECURSIVE_NP) {
        if (m->__data.__count + 1 == 0) return EAGAIN;
        m->__data.__count++;
        return 0;
      }
    }
    if (only_tries) {
      // The caller may try again until it is free.
      let_others_run();
      return EBUSY;
    }
    if (!(held & FUTEX_WAITERS) && !word(m).compare_exchange_strong(held, held | FUTEX_WAITERS))
      continue;
    waiters = FUTEX_WAITERS;
    r = kernel_futex::wait(&word(m), held | FUTEX_WAITERS, until, futex::ends::by_wake);
    if (r == -ETIMEDOUT) return ETIMEDOUT;
    if (r == -ECANCELED) {
      check_may_wait();
      act_on_cancel();
    }
  }
}

int unlock(pthread_mutex_t* m) noexcept {
  hub& h = my_hub();
  if (!is_mine(h, m, word(m).load(std::memory_order_relaxed))) return EPERM;
  bool never_again = m->__data.__owner == inconsistent;
  if (type_of(m) == PTHREAD_MUTEX_RECURSIVE_NP && --m->__data.__count != 0)
    return never_again ? ENOTRECOVERABLE : 0;
  {
    core::handlers_deferred quiet;
    in_progress now(list(h), m);
    delist(m);
    m->__data.__owner = never_again ? not_recoverable : 0;
    m->__data.__nusers--;
    holder(m) = 0;
    set_free(m);
  }
  give_way_if_due();
  return 0;
}

void thread_ends() noexcept {
  if (!here()) return;
  hub& h = my_hub();
  if (!h.robust_list || h.robust_pid != h.pid) return;
  core::handlers_deferred quiet;
  head& l = list(h);
  for (std::uintptr_t at = l.next; !l.is_end(at);) {
    link* entry = link::of(at);
    at = entry->next;
    pthread_mutex_t* m = mutex_of(entry);
    if (!is_mine(h, m, word(m).load(std::memory_order_relaxed))) continue;
    in_progress now(l, m);
    delist(m);
    holder(m) = 0;
    std::uint32_t held = word(m).load(std::memory_order_relaxed);
    while (!word(m).compare_exchange_weak(held, (held & FUTEX_WAITERS) | FUTEX_OWNER_DIED,
                                          std::memory_order_release)) {}
    if (held & FUTEX_WAITERS) kernel_futex::wake(&word(m), 1);
  }
}

}  // namespace tendril::posix::robust
