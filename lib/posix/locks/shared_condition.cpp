// The object has the C library's format, because the other processes may run without Tendril. All
// signallers call its pthread_cond_signal(3), here as well. This file is the waiters' side.
//
// A waiter takes a number from `sequence`, and so joins the later one of two groups. Signals go to
// the earlier group: each adds 2 to that group's `signals`, the word on which its members wait, and
// one member takes it back. When all members have been signalled, the next signal closes the group
// (1 in `signals`), waits until nobody waits on its word any more (`at_word` counts them in steps
// of 2), and makes the later group the earlier one. `first` is the number at which the earlier
// group begins.
//
// So a waiter's entry must leave the kernel before the waiter runs again: the signaller may block
// the same kernel thread.
#include "posix/locks/shared_condition.hpp"

#include <limits.h>

#include "posix/common/kernel_futex.hpp"
#include "posix/locks/ownership.hpp"

namespace tendril::posix::shared_condition {

namespace {

using word = std::atomic<std::uint32_t>;

// The format of the C library's versions 2.25 to 2.40.
struct condition {
  std::atomic<std::uint64_t> sequence;  // the next number; lowest bit: the later group's index
  // of the earlier group; lowest bit: the same index, updated later
  std::atomic<std::uint64_t> first;
  word at_word[2];  // lowest bit: a signaller waits for zero
  // members without a signal; of the later group: minus those that have left
  std::uint32_t size[2];
  // the earlier group's original size, times 4; lowest two bits: the internal lock
  word earlier_size;
  // times 8; lowest bits: shared, the clock, whether the destroyer waits
  word users;
  word signals[2];

  static condition& of(pthread_cond_t* c) noexcept { return *reinterpret_cast<condition*>(c); }
};
static_assert(sizeof(condition) <= sizeof(pthread_cond_t));

constexpr std::uint32_t one_at_word = 2, one_user = 8, one_signal = 2, closed = 1;

void leave_word(void* count) noexcept {
  word& at_word = *static_cast<word*>(count);
  if (at_word.fetch_sub(one_at_word, std::memory_order_release) != one_at_word + 1) return;
  at_word.fetch_and(~1u, std::memory_order_relaxed);
  kernel_futex::wake(&at_word, INT_MAX);
}

// The internal lock: 0 free, 1 held, 2 held and waited for.
void lock(condition& c) noexcept {
  std::uint32_t s = c.earlier_size.load(std::memory_order_relaxed), mark = 1;
  for (;;) {
    if ((s & 3) == 0) {
      if (c.earlier_size.compare_exchange_weak(s, s | mark, std::memory_order_acquire,
                                               std::memory_order_relaxed))
        return;
    } else if ((s & 3) == 2 ||
               c.earlier_size.compare_exchange_weak(s, (s & ~3u) | 2, std::memory_order_relaxed)) {
      kernel_futex::wait(&c.earlier_size, (s & ~3u) | 2, deadline::never(), futex::ends::by_wake);
      mark = 2;
      s = c.earlier_size.load(std::memory_order_relaxed);
    }
  }
}
void unlock(condition& c) noexcept {
  if ((c.earlier_size.fetch_and(~3u, std::memory_order_release) & 3) == 2)
    kernel_futex::wake(&c.earlier_size, 1);
}

// Number `n` of group `g` stops waiting without having taken a signal. If a signal was meant for
// it, signals again for another waiter.
void withdraw(pthread_cond_t* object, std::uint64_t n, unsigned g) noexcept {
  constexpr std::uint32_t most = 1u << 29;
  condition& c = condition::of(object);
  lock(c);
  std::uint64_t first = c.first.load(std::memory_order_relaxed) >> 1;
  bool is_later = first + (c.earlier_size.load(std::memory_order_relaxed) >> 2) <= n;
  bool signalled = first > n || (!is_later && c.size[g] == 0);
  bool full = first <= n && is_later && c.size[g] + most == 0;
  if (!signalled && !full) c.size[g]--;
  unlock(c);
  if (full) real.pthread_cond_broadcast(object);
  else if (signalled) real.pthread_cond_signal(object);
}

// Takes a signal, or finds that its whole group was signalled: 0. Otherwise -ETIMEDOUT, -ECANCELED.
int await_signal(condition& c, std::uint64_t n, unsigned g, deadline until) noexcept {
  std::uint32_t s = c.signals[g].load(std::memory_order_acquire);
  for (;;) {
    if (s & closed) return 0;
    if (s != 0) {
      if (c.signals[g].compare_exchange_weak(s, s - one_signal, std::memory_order_acquire)) break;
      continue;
    }
    c.at_word[g].fetch_add(one_at_word, std::memory_order_acquire);
    if ((c.signals[g].load(std::memory_order_acquire) & closed) ||
        n < c.first.load(std::memory_order_relaxed) >> 1) {
      leave_word(&c.at_word[g]);
      return 0;
    }
    int r = kernel_futex::wait(&c.signals[g], 0, until, futex::ends::by_cancel,
                               {leave_word, &c.at_word[g]});
    if (r == -ETIMEDOUT || r == -ECANCELED) return r;
    s = c.signals[g].load(std::memory_order_acquire);
  }
  // The group may have been closed before, and its index reused: then the signal was the new
  // group's, so give it back.
  std::uint64_t first = c.first.load(std::memory_order_relaxed);
  if (n >= first >> 1 || ((first & 1) ^ 1) != g) return 0;
  s = c.signals[g].load(std::memory_order_relaxed);
  while (c.first.load(std::memory_order_relaxed) == first) {
    if (!(s & closed) &&
        !c.signals[g].compare_exchange_weak(s, s + one_signal, std::memory_order_relaxed))
      continue;
    kernel_futex::wake(&c.signals[g], 1);
    break;
  }
  return 0;
}

void is_gone(condition& c) noexcept {
  if ((c.users.fetch_sub(one_user, std::memory_order_release) >> 2) == 3)
    kernel_futex::wake(&c.users, INT_MAX);
}

// Whether the C library's signals change an object as described above.
bool behaves() noexcept {
  pthread_cond_t object = PTHREAD_COND_INITIALIZER;
  condition& c = condition::of(&object);
  for (std::uint64_t n = 0; n < 3; n++) {
    std::uint64_t taken = c.sequence.fetch_add(2);
    unsigned g = taken & 1;
    c.users += one_user;
    real.pthread_cond_signal(&object);
    bool right = taken >> 1 == n && c.signals[g] == one_signal && c.signals[g ^ 1] == 0 &&
                 c.size[g] == 0 && c.first >> 1 == n && (c.first & 1) == (g ^ 1) &&
                 (c.sequence & 1) == (g ^ 1) && c.earlier_size == 4 && c.users == one_user &&
                 c.at_word[0] == 0 && c.at_word[1] == 0;
    if (!right) return false;
    c.signals[g] -= one_signal;
    c.users -= one_user;
  }
  return true;
}

}  // namespace

bool known() noexcept {
  static std::atomic<int> answer{0};  // 1: yes, 2: no
  int a = answer.load(std::memory_order_relaxed);
  if (!a) answer.store(a = behaves() ? 1 : 2, std::memory_order_relaxed);
  return a == 1 && kernel_futex::has_batches();
}

int wait(pthread_cond_t* object, pthread_mutex_t* m, deadline until) noexcept {
  if (cancel_due()) act_on_cancel();
  condition& c = condition::of(object);
  std::uint64_t taken = c.sequence.fetch_add(2, std::memory_order_acquire);
  unsigned g = taken & 1;
  std::uint64_t n = taken >> 1;
  c.users.fetch_add(one_user, std::memory_order_relaxed);
  // While threads wait that will lock the mutex again, it must not be destroyed: count them as
  // users.
  m->__data.__nusers++;
  int not_owner = posix::pthread_mutex_unlock(m);
  if (not_owner) m->__data.__nusers--;
  int r = not_owner ? -EPERM : await_signal(c, n, g, until);
  if (r < 0) withdraw(object, n, g);
  is_gone(c);
  if (not_owner) return not_owner;
  int locked = posix::pthread_mutex_lock(m);
  m->__data.__nusers--;
  if (r == -ECANCELED) act_on_cancel();
  return locked ? locked : r == -ETIMEDOUT ? ETIMEDOUT : 0;
}

}  // namespace tendril::posix::shared_condition
