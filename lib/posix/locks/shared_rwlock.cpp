// The object has the C library's format, because the other processes may run without Tendril.
// Unlocking and trying is done by the C library's functions, here as well. This file is the side
// that may have to wait.
//
// Readers and writers take turns (glibc calls these phases). `readers` counts, in steps of 8, those
// that read or wait for the readers' turn. Its lowest bits say whose turn it is, and whether a
// writer has the writers' place: that writer writes, or waits until the readers before it have
// left. The last of these readers makes it the writers' turn; a writer that leaves makes it the
// readers'. Whoever changes the turn stores it last in `turn`, the word on which the others wait.
// All other writers wait for the place, on the word `place_taken`. Unless the lock prefers readers,
// `writers` counts them, and the writer in the place hands it over to one of them instead of
// leaving it.
#include "posix/locks/shared_rwlock.hpp"

#include <limits.h>

#include "posix/common/kernel_futex.hpp"
#include "posix/locks/ownership.hpp"

namespace tendril::posix::shared_rwlock {

namespace {

using word = std::atomic<std::uint32_t>;

// The C library's format since version 2.25.
struct rwlock {
  word readers, writers, turn, place_taken;

  static rwlock& of(pthread_rwlock_t* l) noexcept {
    return *reinterpret_cast<rwlock*>(&l->__data.__readers);
  }
};
static_assert(offsetof(pthread_rwlock_t, __data.__writers_futex) ==
              offsetof(rwlock, place_taken) + offsetof(pthread_rwlock_t, __data.__readers));

// Bits of `readers`.
constexpr std::uint32_t writers_turn = 1, has_writer = 2, readers_wait = 4, one_reader = 8,
                        too_many = 1u << 31;
// Bit of `writers`: the place was handed over to one of them.
constexpr std::uint32_t handed_over = 1u << 31;
// Bit of `turn` and `place_taken`, besides 1: whoever changes the word must wake its waiters.
constexpr std::uint32_t waited_for = 2;

bool hands_over(const pthread_rwlock_t* l) noexcept {
  return l->__data.__flags != PTHREAD_RWLOCK_PREFER_READER_NP;
}

// Waits while the word has that value, whether or not the waiters' bit is set. 0: perhaps spurious;
// -ETIMEDOUT; -ECANCELED.
int wait_marked(word& w, std::uint32_t while_it_is, deadline until) noexcept {
  std::uint32_t marked = while_it_is | waited_for, s = w.load(std::memory_order_relaxed);
  if ((s | waited_for) != marked) {
    // Another fiber may be about to change the next word.
    let_others_run();
    return 0;
  }
  if (s != marked && !w.compare_exchange_strong(s, marked, std::memory_order_relaxed)) return 0;
  int r = kernel_futex::wait(&w, marked, until, futex::ends::by_wake);
  return r == -ETIMEDOUT || r == -ECANCELED ? r : 0;
}

void wake_if(std::uint32_t was, word& w, int n) noexcept {
  if (was & waited_for) kernel_futex::wake(&w, n);
}

// Waits until it is the writers' turn (1) or the readers' (0), and until `turn` says so, too. If
// the wait ends otherwise, leave() tries to leave the lock. It returns false if the turn has come
// meanwhile, which must then be taken.
template <class Leave>
int await_turn(rwlock& l, std::uint32_t wanted, deadline until, Leave leave) noexcept {
  for (bool has_come = false, waits = true;;) {
    while ((l.turn.load(std::memory_order_relaxed) & 1) != wanted) {
      if (!waits) {
        let_others_run();
        continue;
      }
      int r = wait_marked(l.turn, 1 - wanted, until);
      if (r < 0 && leave()) return r;
      if (r < 0) has_come = true, waits = false;
    }
    if (has_come) return 0;
    has_come = (l.readers.load(std::memory_order_acquire) & writers_turn) == wanted;
  }
}

// 0, -EAGAIN, -ETIMEDOUT, -ECANCELED.
int read_lock(rwlock& l, bool stays_behind_writers, deadline until) noexcept {
  std::uint32_t s = l.readers.load(std::memory_order_relaxed);
  while (stays_behind_writers && !(s & writers_turn) && (s & has_writer) && s >= one_reader) {
    if (!(s & readers_wait) && !l.readers.compare_exchange_weak(s, s | readers_wait)) continue;
    for (s |= readers_wait; s & readers_wait; s = l.readers.load(std::memory_order_relaxed)) {
      int r = kernel_futex::wait(&l.readers, s, until, futex::ends::by_wake);
      if (r == -ETIMEDOUT || r == -ECANCELED) return r;
    }
  }
  s = l.readers.fetch_add(one_reader, std::memory_order_acquire) + one_reader;
  while (s & too_many) {
    if (l.readers.compare_exchange_weak(s, s - one_reader, std::memory_order_relaxed))
      return -EAGAIN;
  }
  while ((s & writers_turn) && !(s & has_writer)) {
    // It is the writers' turn, but no writer needs it.
    if (!l.readers.compare_exchange_weak(s, s ^ writers_turn, std::memory_order_acquire)) continue;
    wake_if(l.turn.exchange(0, std::memory_order_relaxed), l.turn, INT_MAX);
    return 0;
  }
  if (!(s & writers_turn)) return 0;
  return await_turn(l, 0, until, [&] {
    std::uint32_t now = l.readers.load(std::memory_order_acquire);
    while (now & writers_turn) {
      if (l.readers.compare_exchange_weak(now, now - one_reader, std::memory_order_acquire))
        return true;
    }
    return false;
  });
}

// Takes the writers' place. `s` receives the value of `readers` at that time. 0, -ETIMEDOUT,
// -ECANCELED.
int take_place(rwlock& l, bool in_turns, deadline until, std::uint32_t& s) noexcept {
  s = l.readers.fetch_or(has_writer, std::memory_order_acquire);
  if (!(s & has_writer)) {
    l.place_taken.store(1, std::memory_order_relaxed);
    return 0;
  }
  if (in_turns) l.writers.fetch_add(1, std::memory_order_relaxed);
  for (bool have = false; !have;) {
    if (!(s & has_writer)) {
      if (!l.readers.compare_exchange_weak(s, s | has_writer, std::memory_order_acquire)) continue;
      if (in_turns) l.writers.fetch_sub(1, std::memory_order_relaxed);
      break;
    }
    std::uint32_t w = in_turns ? l.writers.load(std::memory_order_relaxed) : 0;
    if (w & handed_over) {
      have = l.writers.compare_exchange_weak(w, w - handed_over - 1, std::memory_order_acquire);
    } else if (int r = wait_marked(l.place_taken, 1, until); r < 0) {
      if (!in_turns) return r;
      // The last waiting writer must take a place that was handed over: nobody else would.
      do {
        have = w == (handed_over | 1);
      } while (!l.writers.compare_exchange_weak(w, have ? 0 : w - 1, std::memory_order_acquire));
      if (!have) return r;
    }
    s = l.readers.load(std::memory_order_relaxed);
  }
  // Other writers may already wait for the place.
  l.place_taken.store(1 | waited_for, std::memory_order_relaxed);
  return 0;
}

// Leaves the writers' place. False: it has become the writers' turn, which the writer in the place
// must take.
bool leave_place(rwlock& l, bool in_turns) noexcept {
  // Set the word before leaving the place: the next writer in the place sets the word itself.
  std::uint32_t was = l.place_taken.exchange(0, std::memory_order_relaxed);
  std::uint32_t w = in_turns ? l.writers.load(std::memory_order_relaxed) : 0;
  while (w) {
    if (!l.writers.compare_exchange_weak(w, w | handed_over, std::memory_order_release)) continue;
    wake_if(was, l.place_taken, 1);
    return true;
  }
  std::uint32_t s = l.readers.load(std::memory_order_acquire);
  while (!(s & writers_turn)) {
    if (!l.readers.compare_exchange_weak(s, (s ^ has_writer) & ~readers_wait,
                                         std::memory_order_acq_rel, std::memory_order_acquire))
      continue;
    wake_if(was, l.place_taken, 1);
    if (s & readers_wait) kernel_futex::wake(&l.readers, INT_MAX);
    return true;
  }
  l.place_taken.store(was, std::memory_order_relaxed);
  return false;
}

// 0, -ETIMEDOUT, -ECANCELED.
int write_lock(rwlock& l, bool in_turns, deadline until) noexcept {
  std::uint32_t s;
  if (int r = take_place(l, in_turns, until, s)) return r;
  while (!(s & writers_turn)) {
    if (s >= one_reader) return await_turn(l, 1, until, [&] { return leave_place(l, in_turns); });
    if (!l.readers.compare_exchange_weak(s, s | writers_turn, std::memory_order_acquire)) continue;
    l.turn.store(1, std::memory_order_relaxed);
    break;
  }
  return 0;
}

// Repeats if the lock was cancelled, and the cancellation did not end the thread.
template <class F>
int until_done(F lock) noexcept {
  for (;;) {
    int r = lock();
    if (r != -ECANCELED) return -r;
    check_may_wait();
    act_on_cancel();
  }
}

// Whether the C library's functions change an object as described above.
bool behaves() noexcept {
  pthread_rwlock_t object = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
  object.__data.__shared = 1;
  rwlock& l = rwlock::of(&object);
  auto is = [&](std::uint32_t readers, std::uint32_t writers, std::uint32_t turn,
                std::uint32_t place) {
    return l.readers == readers && l.writers == writers && l.turn == turn && l.place_taken == place;
  };
  if (real.pthread_rwlock_tryrdlock(&object) || !is(one_reader, 0, 0, 0) ||
      real.pthread_rwlock_unlock(&object) || !is(0, 0, 0, 0) ||
      real.pthread_rwlock_trywrlock(&object) || !is(writers_turn | has_writer, 0, 1, 1) ||
      object.__data.__cur_writer != own_tid() || real.pthread_rwlock_unlock(&object) ||
      !is(writers_turn, 0, 1, 0) || real.pthread_rwlock_tryrdlock(&object) ||
      !is(one_reader, 0, 0, 0) || real.pthread_rwlock_unlock(&object))
    return false;
  if (real.pthread_rwlock_trywrlock(&object)) return false;
  l.writers = 1;
  return real.pthread_rwlock_unlock(&object) == 0 &&
         is(writers_turn | has_writer, handed_over | 1, 1, 0);
}

}  // namespace

bool known() noexcept {
  static std::atomic<int> answer{0};  // 1: yes, 2: no
  int a = answer.load(std::memory_order_relaxed);
  if (!a) answer.store(a = behaves() ? 1 : 2, std::memory_order_relaxed);
  return a == 1;
}

int lock_for_reading(pthread_rwlock_t* l, deadline until) noexcept {
  if (has_write_lock(l)) return EDEADLK;
  bool behind = l->__data.__flags == PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP;
  return until_done([&] { return read_lock(rwlock::of(l), behind, until); });
}

int lock_for_writing(pthread_rwlock_t* l, deadline until) noexcept {
  if (has_write_lock(l)) return EDEADLK;
  int r = until_done([&] { return write_lock(rwlock::of(l), hands_over(l), until); });
  // The C library's unlock recognizes a writer by this number.
  if (r == 0) l->__data.__cur_writer = own_tid();
  return r;
}

}  // namespace tendril::posix::shared_rwlock
