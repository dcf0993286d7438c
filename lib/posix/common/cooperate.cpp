#include "posix/common/cooperate.hpp"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "posix/descriptors/iovec_cursor.hpp"
#include "posix/descriptors/wait_set.hpp"
#include "posix/signals/signalfd_loan.hpp"
#include "scheduler/helper_pool.hpp"

namespace tendril::posix {

namespace {

bool on_alternate_stack(const core::signal_state& s, const void* here) noexcept {
  if (my_hub().several_threads)
    return core::stands_on(s.stack, here) || core::stands_on(s.entered, here);
  stack_t alternate{};
  return sys::call(SYS_sigaltstack, 0, &alternate) < 0 || (alternate.ss_flags & SS_ONSTACK);
}

// Whether a handler with that mark still runs, asked from a frame at `here`. One that was left by
// siglongjmp is noticed by the stack having shrunk past it, by its mark having been overwritten
// since, or by our being on another stack.
__attribute__((no_sanitize("address"))) bool still_runs(const core::signal_state& s,
                                                        const core::running_handler& h,
                                                        const char* here) noexcept {
  constexpr std::ptrdiff_t one_stack = 8 << 20;
  std::ptrdiff_t deeper = reinterpret_cast<const char*>(h.mark) - here;
  if (deeper >= 0 && deeper < one_stack)
    return *static_cast<const volatile std::uint64_t*>(h.mark) == h.serial;
  if (deeper < 0 && deeper > -one_stack) return false;
  // Only a handler on the alternate signal stack has another stack beneath it.
  return on_alternate_stack(s, here);
}

// The wait of a process that only borrows our memory (a vfork child): plainly blocking.
[[gnu::noinline, gnu::cold]] int wait_in_kernel(int fd, std::uint32_t events,
                                                deadline until) noexcept {
  // EPOLLIN and POLLIN, ... are the same bits
  pollfd p{.fd = fd, .events = short(events), .revents = 0};
  timespec wait{}, *timeout = nullptr;
  if (!until.is_never()) {
    wait = time_left(until);
    timeout = &wait;
  }
  long r = sys::call(SYS_ppoll, &p, fd >= 0 ? 1 : 0, timeout, 0, 8);
  return r == 0 ? -ETIMEDOUT : r < 0 ? int(r) : 0;
}

}  // namespace

__attribute__((noinline, no_sanitize("address"))) bool in_handler(core::signal_state& s,
                                                                  const void* end) noexcept {
  const char* here = static_cast<const char*>(end ? end : arch::stack_pointer());
  int depth = s.depth;
  while (depth > 0 && !still_runs(s, s.handlers[depth - 1], here)) depth--;
  if (depth != s.depth) s.depth = depth;
  return depth > 0;
}

[[gnu::noinline]] static bool running_handler_stays(fiber* self, const void* here) noexcept {
  core::signal_state& s = self->storage->signals;
  if (!in_handler(s, here)) return false;
  hub& h = *hub::of(self);
  if (h.inside || !h.several_threads || s.owner != self) return true;
  return !fibers_are_threads(h) && on_alternate_stack(s, here ? here : arch::stack_pointer());
}

bool handler_stays(fiber* self, const void* here) noexcept {
  return self->storage->signals.depth && running_handler_stays(self, here);
}

constinit std::atomic<bool> always{false};

void cooperate_always() noexcept { always = true; }

const char* io_uring_obstacle() noexcept { return core::poller::ring_obstacle(); }

namespace {

bool may_wait_here(fiber* self) noexcept {
  if (!others_here(self) && self->extra.limit == INT64_MAX) return false;
  return !handler_stays(self);
}

}  // namespace

bool may_wait_after_all(fiber* self) noexcept { return may_wait_here(self) && in_hubs_process(); }

void let_others_run() noexcept {
  if (may_wait()) give_way();
}

bool cooperative_here(fiber* self) noexcept {
  if (!may_wait_here(self)) return false;
  forget_signals();
  core::signal_state& s = self->storage->signals;
  if (self->masked && !in_handler(s)) [[unlikely]] {
    // Its last wait was left by siglongjmp.
    self->masked = false;
    s.masked--;
  }
  if (cancel_due()) [[unlikely]]
    act_on_cancel();
  return true;
}

namespace {

// Parks, unless a signal handler has ended the wait already. The caller holds a
// core::handlers_wait.
[[gnu::always_inline]] inline core::wake park_unless_interrupted(const core::wait_info& what,
                                                                 deadline until,
                                                                 on_signal rule) noexcept {
  if (interrupted(rule, what.for_signal)) return core::wake::signal;
  if (!what.uninterruptible && cancel_due()) return core::wake::interrupted;
  return core::park(until.at, what, true);
}

// What the end of a wait means, once the handlers have run.
int outcome(core::wake why, const core::wait_info& what, on_signal rule) noexcept {
  switch (why) {
    case core::wake::timeout:
      return -ETIMEDOUT;
    case core::wake::interrupted:
      return -ECANCELED;
    case core::wake::closed:
      return -EBADF;
    case core::wake::signal:
      return interrupted(rule, what.for_signal) ? -EINTR : 0;
    default:
      return 0;
  }
}

}  // namespace

int wait_parked(const core::wait_info& what, deadline until, on_signal rule,
                const std::atomic<std::uint32_t>* unparked, core::nanoseconds* ended) noexcept {
  hub& h = my_hub();
  fiber* self = core::current;
  if (until.is_never() && !ended && waits_plainly(h, self, what.uninterruptible) &&
      no_handler_ran(self)) [[likely]] {
    core::wake why = core::wake::unparked;
    {
      core::handlers_wait quiet(h);
      if (!unparked || !unparked->load(std::memory_order_acquire))
        why = core::park_plainly(h, self, what, h.inside);
    }
    if (why == core::wake::unparked) return 0;
    return outcome(why, what, rule);
  }
  if (!in_hubs_process()) return wait_in_kernel(-1, 0, until);
  int saved = errno;  // other fibers run meanwhile, and a call that succeeds leaves errno alone
  core::wake why;
  {
    core::handlers_wait quiet(h);
    if (unparked && unparked->load(std::memory_order_acquire)) why = core::wake::unparked;
    else why = park_unless_interrupted(what, until, rule);
    if (ended && why == core::wake::signal) *ended = core::now();
  }
  errno = saved;
  return outcome(why, what, rule);
}

int wait_for(int fd, std::uint32_t events, deadline until, on_signal rule,
             std::uint32_t* told) noexcept {
  if (!in_hubs_process()) return wait_in_kernel(fd, events, until);
  core::io_waiter w;
  w.who = core::current;
  w.fd = fd;
  w.events = events;
  core::wait_info what;
  what.kind = core::wait_kind::descriptor;
  what.fd = fd;
  what.interruptible = true;
  hub& h = my_hub();
  int saved = errno;
  core::wake why;
  {
    core::handlers_wait quiet(h);
    int r = h.io.add(w);
    if (r < 0) return r;
    why = park_unless_interrupted(what, until, rule);
    h.io.remove(w);
  }
  if (told) *told = w.told;
  errno = saved;
  int r = outcome(why, what, rule);
  // A call that goes on after a handler begins anew, with whatever the number stands for by then.
  if (r == 0 && why == core::wake::signal && !core::descriptors::sees_all(fd) &&
      !h.io.still_stands(w))
    return -EBADF;
  return r;
}

int wait_for_source(core::source s, deadline (*look)(void*, bool) noexcept,
                    void* argument) noexcept {
  core::source_waiter w;
  w.who = core::current;
  core::wait_info what;
  what.kind = s == core::source::signals ? core::wait_kind::signal : core::wait_kind::sleep;
  what.remote = what.interruptible = true;
  hub& h = my_hub();
  int saved = errno;
  core::wake why = core::wake::unparked;
  {
    core::handlers_wait quiet(h);
    deadline until = look(argument, h.io.add(w, s));
    if (until.at > 0) why = park_unless_interrupted(what, until, on_signal::always);
    h.io.remove(w);
  }
  errno = saved;
  return outcome(why, what, on_signal::always);
}

// Whether receives from fd wait without end when they have to: waits_until() found that before.
static bool waits_without_end(int fd) noexcept {
  core::descriptor* d = core::descriptors::sees_all(fd) ? core::descriptors::at(fd) : nullptr;
  return d &&
         d->receives_blocking.load(std::memory_order_relaxed) == core::descriptors::mode_stamp(*d);
}

long receive_by_ring(int fd, void* buf, std::size_t n) noexcept {
  hub& h = my_hub();
  if (n == 0 || !in_hubs_process() || kind_of(fd) != file_kind::socket ||
      sys::is_refused(SYS_recvfrom) || receives_by_mark(fd))
    return not_by_ring;
  std::size_t room = n < vector_walk::most ? n : vector_walk::most;
  for (;;) {
    bool vain = h.io.seems_empty(fd);
    std::uint32_t begun = h.io.begin_receive(fd);
    if (!vain) {
      long r = sys::call(SYS_recvfrom, fd, buf, room, MSG_DONTWAIT, 0, 0);
      if (r > 0 && std::size_t(r) < room) h.io.received_all(fd, begun);
      if (r != -EAGAIN) {
        h.breathe();
        return r;
      }
    }
    deadline until = deadline::never();
    if (!waits_without_end(fd) && (!waits_until(fd, SO_RCVTIMEO, until) || !waits_without_end(fd)))
      return not_by_ring;
    core::ring_receive receive;
    receive.who = core::current;
    receive.fd = fd;
    receive.to = buf;
    receive.room = std::uint32_t(room);
    core::wait_info what;
    what.kind = core::wait_kind::descriptor;
    what.fd = fd;
    what.interruptible = true;
    int saved = errno;
    core::wake why;
    {
      core::handlers_wait quiet(h);
      if (!h.io.begin(receive)) return not_by_ring;
      why = park_unless_interrupted(what, until, on_signal::restart);
      h.io.end(receive);
    }
    errno = saved;
    if (receive.result != -ECANCELED) {
      if (receive.result > 0 && std::size_t(receive.result) < room) h.io.received_all(fd, begun);
      return receive.result;
    }
    if (int w = outcome(why, what, on_signal::restart); w < 0) return w;
    if (!h.io.wants_ring()) return not_by_ring;
  }
}

int wait_set::wait(deadline until, std::size_t& bad_before, core::nanoseconds* ended) noexcept {
  if (!in_hubs_process()) return -ENOMEM;
  hub& h = my_hub();
  int saved = errno;
  core::wait_info what;
  what.kind = count_ == 1 ? core::wait_kind::descriptor : core::wait_kind::descriptors;
  what.fd = count_ == 1 ? w_[0].fd : -1;
  what.interruptible = true;
  core::wake why = core::wake::unparked;
  bool failed = false;
  std::size_t watched = 0, bad = 0;
  {
    core::handlers_wait quiet(h);
    for (std::size_t i = 0; i < count_; i++) {
      int r = h.io.add(w_[i]);
      // What cannot be watched and was not ready: a file polled for nothing, or a number that
      // select(2) looks past, beyond all that the process ever opened.
      failed |= r < 0 && r != -EPERM && r != -EBADF;
      bad += r == -EBADF;
      watched += r == 0;
    }
    what.remote = watched == 0;  // then only a signal may end this, if anything
    // One that was closed since the program's call looked at it: the next try says so.
    bool newly_bad = bad > bad_before;
    bad_before = bad;
    if (!failed && !newly_bad) why = park_unless_interrupted(what, until, on_signal::always);
    for (std::size_t i = 0; i < count_; i++) h.io.remove(w_[i]);
    if (ended && why == core::wake::signal) *ended = core::now();
  }
  errno = saved;
  if (failed) return -ENOMEM;
  int r = outcome(why, what, on_signal::always);
  return r == -EBADF ? 0 : r;  // closed meanwhile: the next try says POLLNVAL, or EBADF
}

int socket_option(int fd, int name) noexcept {
  int value = 0;
  socklen_t n = sizeof value;
  return sys::call(SYS_getsockopt, fd, SOL_SOCKET, name, &value, &n) < 0 ? -1 : value;
}

deadline socket_deadline(int fd, int option) noexcept {
  timeval t{};
  socklen_t n = sizeof t;
  if (sys::call(SYS_getsockopt, fd, SOL_SOCKET, option, &t, &n) < 0 ||
      (t.tv_sec == 0 && t.tv_usec == 0)) {
    return deadline::never();
  }
  return deadline::after(core::now(), t.tv_sec * 1'000'000'000L + t.tv_usec * 1000L);
}

bool waits_until(int fd, int timeout_option, deadline& until) noexcept {
  core::descriptor* d = core::descriptors::sees_all(fd) ? core::descriptors::at(fd) : nullptr;
  std::atomic<std::uint64_t>* known = !d                              ? nullptr
                                      : timeout_option == SO_SNDTIMEO ? &d->sends_blocking
                                                                      : &d->receives_blocking;
  std::uint64_t stamp = d ? core::descriptors::mode_stamp(*d) : 0;
  if (known && known->load(std::memory_order_relaxed) == stamp) return true;
  if (!blocks(fd)) return false;
  if (timeout_option) until = socket_deadline(fd, timeout_option);
  if (known && timeout_option && until.is_never() && core::descriptors::is_private(fd)) {
    known->store(stamp, std::memory_order_relaxed);
  }
  return true;
}

int wait_if_emptied(int fd) noexcept {
  if (!my_hub().io.drained(fd) || !waits_without_end(fd)) return 0;
  return wait_for(fd, EPOLLIN, deadline::never(), on_signal::restart);
}

void note_kind(int fd, file_kind k) noexcept {
  if (core::descriptor* d = core::descriptors::at(fd)) {
    d->kind.store(d->generation.load(std::memory_order_relaxed) << 3 | std::uint32_t(k),
                  std::memory_order_relaxed);
  }
}

namespace {

// What has no place in any file system has no type either, but a name.
bool is_eventfd(int fd, const struct stat& s) noexcept {
  if (s.st_mode & S_IFMT) return false;
  char path[32] = "/proc/self/fd/", target[32] = {};
  sys::number digits(fd);
  memcpy(path + strlen(path), digits.digits, std::size_t(digits.length));
  return sys::call(SYS_readlinkat, AT_FDCWD, path, target, sizeof target - 1) > 0 &&
         !strcmp(target, "anon_inode:[eventfd]");
}

}  // namespace

file_kind look_up_kind(int fd) noexcept {
  struct stat s;
  if (sys::call(SYS_fstat, fd, &s) < 0) return file_kind::unknown;
  file_kind k = S_ISSOCK(s.st_mode)   ? kind_of_socket(socket_option(fd, SO_TYPE))
                : S_ISFIFO(s.st_mode) ? file_kind::pipe
                : S_ISREG(s.st_mode)  ? file_kind::regular
                : S_ISCHR(s.st_mode)  ? file_kind::character
                : is_eventfd(fd, s)   ? file_kind::event
                                      : file_kind::other;
  note_kind(fd, k);
  return k;
}

file_kind kind_of(int fd) noexcept {
  if (core::descriptor* d = core::descriptors::at(fd)) {
    std::uint32_t known = d->kind.load(std::memory_order_relaxed);
    if ((known & 7) && known >> 3 == (d->generation.load(std::memory_order_relaxed) & (~0U >> 3))) {
      return file_kind(known & 7);
    }
  }
  return look_up_kind(fd);
}

namespace {

short poll_once(int fd, short events) noexcept {
  pollfd p{.fd = fd, .events = events, .revents = 0};
  long r;
  do {
    lent_signals lent;
    r = sys::poll_now(&p, 1);
  } while (r == -EINTR);  // even without waiting, when a signal has just come
  return r < 0 ? short(POLLERR) : p.revents;
}

}  // namespace

bool ready_now(int fd, short events) noexcept { return poll_once(fd, events) != 0; }
bool hung_up(int fd) noexcept { return poll_once(fd, 0) & POLLHUP; }

int wait_ready(int fd, short events) noexcept {
  if (ready_now(fd, events)) {
    my_hub().breathe();
    return 0;
  }
  if (!blocks(fd)) return -EAGAIN;
  std::uint32_t wanted = (events & POLLIN ? EPOLLIN : 0u) | (events & POLLOUT ? EPOLLOUT : 0u);
  deadline until = socket_deadline(fd, events & POLLOUT ? SO_SNDTIMEO : SO_RCVTIMEO);
  on_signal rule = until.is_never() ? on_signal::restart : on_signal::always;
  do {
    int w = wait_for(fd, wanted, until, rule);
    if (w == -EPERM) return 0;
    if (w < 0) return w == -ETIMEDOUT ? -EAGAIN : w;
  } while (!ready_now(fd, events));
  return 0;
}

}  // namespace tendril::posix
