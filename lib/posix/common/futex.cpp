#include "posix/common/futex.hpp"

#include <pthread.h>
#include <setjmp.h>

#include "base/internal_result.hpp"

extern "C" {
// How the C library stops the unwinding of pthread_cancel at a frame.
void __pthread_register_cancel(__pthread_unwind_buf_t*);
void __pthread_unregister_cancel(__pthread_unwind_buf_t*);
int __sigsetjmp(struct __jmp_buf_tag*, int) noexcept __attribute__((returns_twice));
}

namespace tendril::posix::futex {

constinit bucket table[1 << buckets_log2];
constinit std::atomic<bool> used{false};

namespace {

// Defers signals: a handler that wakes a waiter (sem_post) must not interrupt a holder of the lock.
using quiet = core::signals_deferred;

bool ends_by_handler(ends e) noexcept { return e == ends::by_signal || e == ends::by_handler; }

// Waits in the kernel as a cancellation point, on a kernel thread without fibers. As in the C
// library, cancellation is asynchronous meanwhile. The unwinding stops here, so that the waiter can
// be removed, and continues in act_on_cancel().
[[gnu::noinline]] int wait_cancellably(waiter& w, const timespec* timeout) noexcept {
  __pthread_unwind_buf_t here;
  if (__sigsetjmp(reinterpret_cast<struct __jmp_buf_tag*>(here.__cancel_jmp_buf), 0) != 0) {
    __pthread_unregister_cancel(&here);
    kernel_thread_cancelled = true;
    return -ECANCELED;
  }
  __pthread_register_cancel(&here);
  int type;
  pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
  int r = sys::futex_wait(&w.woken, 0, timeout);
  pthread_setcanceltype(type, nullptr);
  __pthread_unregister_cancel(&here);
  return r;
}

// Waits in the kernel, on a kernel thread where no other fiber could run.
int wait_in_kernel(waiter& w, deadline until, ends e, on_signal rule) noexcept {
  bool cancellable = !core::current && (e == ends::by_cancel || e == ends::by_signal);
  while (!w.woken.load(std::memory_order_acquire)) {
    timespec left{}, *timeout = nullptr;
    if (!until.is_never()) {
      left = time_left(until);
      timeout = &left;
    }
    int r = cancellable ? wait_cancellably(w, timeout) : sys::futex_wait(&w.woken, 0, timeout);
    if (r == -ETIMEDOUT || r == -ECANCELED) return r;
    // With a time-out, the kernel returns EINTR after any signal, including our own (preempt.cpp).
    if (r == -EINTR && ends_by_handler(e) && (!core::current || interrupted(rule))) return r;
  }
  return 0;
}

// Calls f() under the lock of the bucket where the waiter is listed; a requeue may move it.
template <class F>
void at_its_place(waiter& w, F f) noexcept {
  core::signals_deferred quiet;
  for (;;) {
    const void* word = std::atomic_ref(w.word).load(std::memory_order_relaxed);
    detail::held guard(bucket_of(word).lock);
    if (w.word == word) return f();
  }
}

}  // namespace

void after_fork() noexcept {
  // The table was never used: do not touch its pages.
  if (!used.load(std::memory_order_relaxed)) return;
  // The waiters stayed in the parent process.
  for (bucket& b : table) {
    b.waiters.abandon();
    new (&b.lock) biased_lock;
  }
}

void add(waiter& w, const void* word) noexcept {
  prepare();
  bucket& b = bucket_of(word);
  quiet q;
  detail::held guard(b.lock);
  list_waiter(b, w, word);
}

namespace {

// Adds the waiter only if the word equals `expected`.
bool add_if(waiter& w, const std::atomic<std::uint32_t>* word, std::uint32_t expected) noexcept {
  prepare();
  bucket& b = bucket_of(word);
  quiet q;
  detail::held guard(b.lock);
  if (word->load(std::memory_order_seq_cst) != expected) return false;
  list_waiter(b, w, word);
  return true;
}

// Parks. A deferred handler may wait itself, and waiters of this word may be woken meanwhile; so,
// as in the kernel, the waiter is removed before the handler runs. False: it was removed, and a
// handler ran.
bool park_in_queue(waiter& w, const core::wait_info& what, deadline until, on_signal rule,
                   int& r) noexcept {
  core::handlers_deferred quiet;
  r = wait_parked(what, until, rule, &w.woken);
  if (!my_hub().handlers_due() || r < 0 || w.woken.load(std::memory_order_acquire)) return true;
  bool listed = false;
  at_its_place(w, [&] {
    listed = w.linked();
    unlist(w);
  });
  return !listed;
}

// With `leaves`, the waiter is removed before handlers run: then core::restart if the wait is not
// over.
[[gnu::always_inline]] inline int wait_here(waiter& w, deadline until, ends e,
                                            bool leaves) noexcept {
  core::wait_info what;
  what.kind = core::wait_kind::lock;
  what.target = w.word;
  what.wakeable_by_system = what.interruptible = what.movable = true;
  // as futex(2) does
  on_signal rule = until.is_never() ? on_signal::restart : on_signal::always;
  for (;;) {
    int r;
    what.uninterruptible = (e == ends::by_wake && !cancels_at_once()) || e == ends::by_handler;
    if (w.who && !ends_by_handler(e)) forget_signals();
    if (w.who && leaves) {
      if (!park_in_queue(w, what, until, rule, r))
        return ends_by_handler(e) && interrupted(rule) ? -EINTR : core::restart;
    } else if (w.who) r = wait_parked(what, until, rule, &w.woken);
    else r = wait_in_kernel(w, until, e, rule);
    if (w.woken.load(std::memory_order_acquire)) {
      if (r != -ECANCELED || !kernel_thread_cancelled) return 0;
      // It is cancelled all the same, so it passes the wake-up on.
      wake(w.word, 1, w.bits);
      return r;
    }
    bool over = r < 0 && !(r == -EINTR && !ends_by_handler(e));
    bool listed = false;
    at_its_place(w, [&] {
      listed = w.linked();
      if (over) unlist(w);
    });
    if (listed && !over) continue;
    return listed ? r : 0;
  }
}

}  // namespace

int wait(waiter& w, deadline until, ends e) noexcept { return wait_here(w, until, e, false); }

namespace {

// The wait of a fiber that can park on the fast path: no handler runs between listing and parking.
// core::restart if anything but a wake-up ended it: the wait then starts again on the slow path.
[[gnu::always_inline]] inline int wait_fast(hub& h, fiber* self,
                                            const std::atomic<std::uint32_t>* word,
                                            std::uint32_t expected, std::uint32_t bits,
                                            bool uninterruptible) noexcept {
  prepare();
  waiter w;
  w.who = self;
  w.bits = bits;
  core::wait_info what;
  what.kind = core::wait_kind::lock;
  what.target = word;
  what.wakeable_by_system = what.interruptible = true;
  what.uninterruptible = uninterruptible;
  core::handlers_deferred quiet(self);
  {
    bucket& b = bucket_of(word);
    detail::held guard(b.lock);
    if (word->load(std::memory_order_seq_cst) != expected) return -EAGAIN;
    w.word = word;
    b.waiters.push_back(w);
  }
  self->movable = true;
  core::park_fast(h, self, what);
  self->movable = false;
  if (w.woken.load(std::memory_order_acquire)) [[likely]]
    return 0;
  remove(w);
  return w.woken.load(std::memory_order_acquire) ? 0 : core::restart;
}

[[gnu::noinline]] int wait_slow(const std::atomic<std::uint32_t>* word, std::uint32_t expected,
                                deadline until, ends e, std::uint32_t bits) noexcept {
  for (;;) {
    waiter w;
    w.bits = bits;
    if (!add_if(w, word, expected)) return -EAGAIN;
    int r = wait_here(w, until, e, true);
    if (r != core::restart) return r;
  }
}

}  // namespace

int wait(const std::atomic<std::uint32_t>* word, std::uint32_t expected, deadline until, ends e,
         std::uint32_t bits) noexcept {
  if (fiber* self = core::current; self && until.is_never() && could_park(self)) [[likely]] {
    hub& h = *hub::of(self);
    bool at_once = core::tls::cancels_at_once(self->storage->pointer);
    bool uninterruptible = e == ends::by_handler || (e == ends::by_wake && !at_once);
    bool heeds_handlers = ends_by_handler(e);
    if (can_wait_fast(h, self, uninterruptible) && (!heeds_handlers || no_handler_ran(self)))
        [[likely]] {
      int r = wait_fast(h, self, word, expected, bits, uninterruptible);
      if (r != core::restart) [[likely]]
        return r;
      if (heeds_handlers && interrupted(on_signal::restart)) return -EINTR;
    }
  }
  return wait_slow(word, expected, until, e, bits);
}

int wake(const void* word, int n, std::uint32_t bits) noexcept {
  bucket& b = bucket_of(word);
  int woken = 0;
  quiet q;
  detail::held guard(b.lock);
  for (waiter *w = b.waiters.front(), *next; w; w = next) {
    next = b.waiters.after(*w);
    if (w->word != word || !(w->bits & bits)) continue;
    wake_one(*w);
    if (++woken >= n) break;
  }
  return woken;
}

void remove(waiter& w) noexcept {
  at_its_place(w, [&] { unlist(w); });
}

requeued requeue(const void* from, int n, const void* to, int moved,
                 const std::uint32_t* expected) noexcept {
  bucket& a = bucket_of(from);
  bucket& b = bucket_of(to);
  requeued done{};
  quiet q;
  // Lock buckets in address order to avoid deadlock.
  biased_lock& first = &a < &b ? a.lock : b.lock;
  biased_lock* second = &a == &b ? nullptr : &a < &b ? &b.lock : &a.lock;
  detail::held guard(first);
  bool shared = second && second->lock();
  if (expected && static_cast<const std::atomic<std::uint32_t>*>(from)->load(
                      std::memory_order_seq_cst) != *expected) {
    done.woken = -1;
    if (second) second->unlock(shared);
    return done;
  }
  for (waiter* w = a.waiters.front(); w;) {
    waiter* next = a.waiters.after(*w);
    if (w->word == from) {
      if (done.woken < n) {
        wake_one(*w);
        done.woken++;
      } else if (done.moved < moved) {
        if (from != to) {
          w->unlink();
          std::atomic_ref(w->word).store(to, std::memory_order_relaxed);
          b.waiters.push_back(*w);
        }
        done.moved++;
      } else {
        break;
      }
    }
    w = next;
  }
  if (second) second->unlock(shared);
  return done;
}

deadline absolute(clockid_t clock, const timespec& t) noexcept {
  core::nanoseconds at = nanoseconds_of(t);
  if (clock == CLOCK_MONOTONIC || at == INT64_MAX) return {at};
  core::nanoseconds left = at - core::time_of(clock);
  return deadline::after(core::now(), left > 0 ? left : 0);
}

}  // namespace tendril::posix::futex
