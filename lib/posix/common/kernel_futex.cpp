#include "posix/common/kernel_futex.hpp"

#include "base/futex_lock.hpp"
#include "base/refused.hpp"
#include "posix/common/offload.hpp"

namespace tendril::posix::kernel_futex {

namespace {

// A waiter; lives in the waiting function's frame.
struct waiter {
  const std::atomic<std::uint32_t>* word = nullptr;
  std::uint32_t expected = 0;
  fiber* who = nullptr;
  out_of_kernel out;
  bool leaves = false;  // has given up, and waits until its entry has left the kernel
  int result = 0;       // valid when `done` is set
  std::atomic<std::uint32_t> done{0};
};

constexpr int left = -ECANCELED;  // a result: the waiter gave up and was not woken before

// As in futex_waitv(2); older headers lack it.
struct vector_entry {
  std::uint64_t value, address;
  std::uint32_t flags, reserved;
};
constexpr long futex_waitv = 449;
constexpr std::uint32_t word_of_32_bits = 2, private_word = 128;

// The entries that one helper keeps in the kernel. `entries[0]` is the helper's own: the bell,
// which makes it return when the list has changed.
struct batch {
  static constexpr int room = 127;

  batch* next = nullptr;
  bool running = false;  // its helper runs
  int size = 0;
  std::atomic<std::uint32_t> bell{0};
  waiter* waiters[room] = {};
  vector_entry entries[room + 1] = {};
};

// All batches; they are never freed.
struct batches {
  core::futex_lock lock;
  batch* first = nullptr;
};
constinit batches all;

void hold(fiber* who) noexcept {
  core::fiber_ref(who);
  who->home->users.fetch_add(1, std::memory_order_relaxed);
}
void let_go(fiber* who) noexcept {
  core::fiber_home* home = who->home;
  if (who != &home->main) core::fiber_unref(who);
  core::leave_home(home);
}

// Once `done` is set, the waiter may be gone.
void finish(waiter& w, int result) noexcept {
  fiber* who = w.who;
  if (w.out.call) w.out.call(w.out.argument);
  w.result = result;
  w.done.store(1, std::memory_order_release);
  core::unpark(who);
  let_go(who);
}

// Lets the kernel check the address and the word: its error, or -EAGAIN if the word has another
// value. The kernel may read an unmapped address; we must not.
long look(const waiter& w) noexcept {
  return sys::call(SYS_futex, w.word, FUTEX_CMP_REQUEUE_PRIVATE, 0, 0, w.word, w.expected);
}

// Finishes the waiters whose wait is over, after the call for the first `n` waiters returned `r`.
// If r >= 0, it is the index of the last woken entry. The kernel wakes in order of entries, so
// earlier entries for the same word were woken, too; those for other words may have been.
void settle(batch& b, int n, long r) noexcept {
  bool looks = r == -EFAULT ||
               (r == -EAGAIN && b.bell.load(std::memory_order_relaxed) == b.entries[0].value);
  bool gone =
      r < 0 && r != -EAGAIN && r != -EFAULT && r != -EINTR && r != -ETIMEDOUT && r != -ENOMEM;
  if (gone) sys::note_refused(futex_waitv);
  int kept = 0;
  for (int i = 0; i < b.size; i++) {
    waiter& w = *b.waiters[i];
    long found = looks && i < n ? look(w) : 0;
    if (i < n && (r > i || gone)) finish(w, 0);
    else if (found < 0) finish(w, int(found));
    else if (w.leaves) finish(w, left);
    else b.waiters[kept++] = &w;
  }
  b.size = kept;
}

void* helper(void* p) {
  batch& b = *static_cast<batch*>(p);
  constexpr core::nanoseconds idle_time = 1'000'000'000;
  int armed = 0;
  long r = -EINTR;
  for (;;) {
    {
      core::futex_guard guard(all.lock);
      settle(b, armed, r);
      if (b.size == 0 && (r == -ETIMEDOUT || sys::is_refused(futex_waitv))) {
        b.running = false;
        return nullptr;
      }
      armed = b.size;
      b.entries[0] = {b.bell.load(std::memory_order_relaxed),
                      reinterpret_cast<std::uint64_t>(&b.bell), word_of_32_bits | private_word, 0};
      for (int i = 0; i < armed; i++) {
        const waiter& w = *b.waiters[i];
        b.entries[i + 1] = {w.expected, reinterpret_cast<std::uint64_t>(w.word), word_of_32_bits,
                            0};
      }
    }
    core::nanoseconds end = core::now() + idle_time;
    timespec until{.tv_sec = end / 1'000'000'000, .tv_nsec = end % 1'000'000'000};
    r = sys::call(futex_waitv, b.entries, armed + 1, 0, armed == 0 ? &until : nullptr,
                  CLOCK_MONOTONIC);
  }
}

// Requires the lock.
void ring(batch& b) noexcept {
  b.bell.fetch_add(1, std::memory_order_relaxed);
  sys::futex_wake(&b.bell, 1);
}

// Puts the waiter into a batch and starts the batch's helper if necessary. Null: no helper is
// possible.
batch* join(waiter& w) noexcept {
  batch* b;
  bool starts = false;
  {
    core::futex_guard guard(all.lock);
    batch* idle = nullptr;
    for (b = all.first; b && !(b->running && b->size < batch::room); b = b->next) {
      if (!b->running) idle = b;
    }
    if (!b) {
      // Check on this thread, not on a helper: a sandbox may answer with a signal, which helpers
      // block.
      if (!has_batches()) return nullptr;
      b = idle;
      if (!b) {
        void* memory = sys::map(sizeof(batch));
        if (!memory) return nullptr;
        b = new (memory) batch;
        b->next = all.first;
        all.first = b;
      }
      b->running = starts = true;
    }
    hold(w.who);
    b->waiters[b->size++] = &w;
    if (!starts) ring(*b);
  }
  if (!starts || core::start_own_thread(helper, b, 64 * 1024)) return b;
  core::futex_guard guard(all.lock);
  // Others may have joined meanwhile: make them check again.
  for (int i = 0; i < b->size; i++) {
    if (b->waiters[i] == &w) let_go(w.who);
    else finish(*b->waiters[i], 0);
  }
  b->size = 0;
  b->running = false;
  return nullptr;
}

void leave(batch& b, waiter& w) noexcept {
  {
    core::futex_guard guard(all.lock);
    if (w.done.load(std::memory_order_relaxed)) return;
    w.leaves = true;
    ring(b);
  }
  core::wait_info what;
  what.kind = core::wait_kind::helper;
  what.wakeable_by_system = what.uninterruptible = true;
  while (!w.done.load(std::memory_order_acquire)) core::park(INT64_MAX, what);
}

bool heeds_handlers(futex::ends e) noexcept {
  return e == futex::ends::by_signal || e == futex::ends::by_handler;
}

// Waits in the kernel where no other fiber could run.
int wait_here(const std::atomic<std::uint32_t>* word, std::uint32_t expected, deadline until,
              futex::ends e, bool killable) noexcept {
  for (;;) {
    timespec left{}, *timeout = nullptr;
    if (!until.is_never()) left = time_left(until), timeout = &left;
    int r = int(sys::call(SYS_futex, word, FUTEX_WAIT, expected, timeout, 0, 0));
    if (r != -EINTR) return r;
    if (killable && cancel_due()) return -ECANCELED;
    if (heeds_handlers(e) && (!core::current || interrupted(on_signal::restart))) return r;
  }
}

int wait_on_own_helper(const std::atomic<std::uint32_t>* word, std::uint32_t expected,
                       deadline until, on_signal rule, bool killable) noexcept {
  return int(offload_interruptible(
      [&] {
        timespec left = time_left(until);
        return sys::call(SYS_futex, word, FUTEX_WAIT, expected, until.is_never() ? nullptr : &left,
                         0, 0);
      },
      rule, killable));
}

}  // namespace

void after_fork() noexcept {
  // The waiters and helpers stayed in the parent process.
  for (batch* b = all.first; b; b = b->next) b->running = false, b->size = 0;
  new (&all.lock) core::futex_lock;
}

bool has_batches() noexcept { return !sys::turns_out_refused(futex_waitv); }

int wait(const std::atomic<std::uint32_t>* word, std::uint32_t expected, deadline until,
         futex::ends e, out_of_kernel out) noexcept {
  auto outside = [&](int r) {
    if (out.call) out.call(out.argument);
    return r;
  };
  bool killable = core::current && e != futex::ends::by_handler &&
                  (e != futex::ends::by_wake || cancels_at_once());
  if (!may_wait()) return outside(wait_here(word, expected, until, e, killable));
  on_signal rule = until.is_never() ? on_signal::restart : on_signal::always;
  core::wait_info what;
  what.kind = core::wait_kind::lock;
  what.target = word;
  what.wakeable_by_system = what.interruptible = true;
  what.uninterruptible = !killable;
  if (!heeds_handlers(e)) forget_signals();
  for (;;) {
    waiter w;
    w.word = word;
    w.expected = expected;
    w.who = core::current;
    w.out = out;
    core::wake why = core::wake::unparked;
    bool helped;
    int saved = errno;
    {
      helper_may_be_made quiet;
      if (heeds_handlers(e) && interrupted(rule)) return outside(-EINTR);
      if (killable && cancel_due()) return outside(-ECANCELED);
      batch* b = join(w);
      helped = b;
      if (helped) {
        while (!w.done.load(std::memory_order_acquire) && why == core::wake::unparked)
          why = core::park(until.at, what, true);
        // Leave the kernel before handlers run, which may not return (siglongjmp), and before `out`
        // reports that nobody waits here.
        if (!w.done.load(std::memory_order_acquire)) leave(*b, w);
      }
    }
    errno = saved;
    if (!helped) {
      int r = wait_on_own_helper(word, expected, until, rule, killable);
      if (r == -EINTR && out.call) r = 0;
      if (r != -EINTR || heeds_handlers(e)) return outside(r);
      continue;
    }
    if (w.result != left) return w.result;
    if (why == core::wake::timeout) return -ETIMEDOUT;
    if (why == core::wake::interrupted) return -ECANCELED;
    if (heeds_handlers(e) && interrupted(rule)) return -EINTR;
    if (out.call) return 0;
  }
}

}  // namespace tendril::posix::kernel_futex
