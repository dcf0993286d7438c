// syscall(2): calls that programs make by number, because the C library has no function for them
// (futexes), or to bypass it. Those that may wait behave as the functions do, but are no
// cancellation points.
//
// Private futexes (FUTEX_PRIVATE_FLAG) wait in our table. The others, which processes may share,
// wait in the kernel: a fiber does that on a helper thread.
#include <tendril/posix.hpp>
#include <tendril/pthread.hpp>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/file.h>
#include <sys/sendfile.h>

#include <initializer_list>

#include "base/fork_handlers.hpp"
#include "posix/common/futex.hpp"
#include "posix/common/offload.hpp"
#include "posix/descriptors/liburing.hpp"
#include "posix/descriptors/wait_set.hpp"
#include "posix/locks/ownership.hpp"
#include "posix/signals/scoped_mask.hpp"
#include "posix/signals/send.hpp"

namespace tendril::posix {

namespace {

using word = std::atomic<std::uint32_t>;

// Lets the kernel check the address and the word: its error, or -EAGAIN if the word is not
// `expected`.
long look(word* w, std::uint32_t expected) noexcept {
  return sys::call(SYS_futex, w, FUTEX_CMP_REQUEUE_PRIVATE, 0, 0, w, expected);
}
bool misaligned(const void* w) noexcept {
  return reinterpret_cast<std::uintptr_t>(w) % sizeof(word);
}

// The deadline of a call: relative, or absolute on one of two clocks. False: the argument is
// invalid; make the kernel's call to report that.
bool read_deadline(deadline& until, const timespec* from, bool absolute, bool realtime) noexcept {
  until = deadline::never();
  if (!from) return true;
  timespec t;
  if (!copy_in(t, from) || !valid(&t)) return false;
  until = absolute ? futex::absolute(realtime ? CLOCK_REALTIME : CLOCK_MONOTONIC, t)
                   : time_from_now(&t);
  return true;
}

long wait_private(word* w, std::uint32_t expected, deadline until, std::uint32_t bits) noexcept {
  if (core::current) forget_signals();
  long r = look(w, expected);
  if (r < 0) return r;
  r = futex::wait(w, expected, until, futex::ends::by_handler, bits);
  if (r == -ECANCELED) act_on_cancel();
  return r == -ECANCELED ? -EINTR : r;
}

long wait_shared(word* w, std::uint32_t expected, deadline until, std::uint32_t bits) noexcept {
  timespec at{.tv_sec = until.at / 1'000'000'000, .tv_nsec = until.at % 1'000'000'000};
  timespec* t = until.is_never() ? nullptr : &at;
  forget_signals();
  return offload_interruptible(
      [&] { return sys::call(SYS_futex, w, FUTEX_WAIT_BITSET, expected, t, 0, bits); },
      t ? on_signal::always : on_signal::restart);
}

// Wakes waiters in our table, then those that wait in the kernel.
long wake_private(word* w, int n, std::uint32_t bits) noexcept {
  if (misaligned(w)) return -EINVAL;
  if (n < 1) n = 1;  // as the kernel does
  int woken = futex::wake(w, n, bits);
  if (woken >= n) return woken;
  long r = sys::call(SYS_futex, w, FUTEX_WAKE_BITSET_PRIVATE, n - woken, 0, 0, bits);
  return r < 0 ? r : r + woken;
}

long wake_op(word* w, int n, word* w2, int n2, std::uint32_t code) noexcept {
  std::uint32_t now2 = 0;
  for (word* each : {w, w2}) {
    long r = look(each, now2);
    if (r < 0 && r != -EAGAIN) return r;
  }
  auto extended = [](std::uint32_t twelve_bits) { return int(twelve_bits << 20) >> 20; };
  int operation = int(code >> 28 & 7), comparison = int(code >> 24 & 15);
  int operand = extended(code >> 12 & 0xfff), compared = extended(code & 0xfff);
  if (code >> 31) {  // FUTEX_OP_OPARG_SHIFT
    if (operand < 0 || operand > 31) operand &= 31;
    operand = int(1u << operand);
  }
  if (operation > FUTEX_OP_XOR || comparison > FUTEX_OP_CMP_GE) return -ENOSYS;
  std::uint32_t old = w2->load(std::memory_order_relaxed), next, o = std::uint32_t(operand);
  do {
    next = operation == FUTEX_OP_SET    ? o
           : operation == FUTEX_OP_ADD  ? old + o
           : operation == FUTEX_OP_OR   ? old | o
           : operation == FUTEX_OP_ANDN ? old & ~o
                                        : old ^ o;
  } while (!w2->compare_exchange_weak(old, next, std::memory_order_seq_cst));
  int before = int(old);
  bool holds = comparison == FUTEX_OP_CMP_EQ   ? before == compared
               : comparison == FUTEX_OP_CMP_NE ? before != compared
               : comparison == FUTEX_OP_CMP_LT ? before < compared
               : comparison == FUTEX_OP_CMP_LE ? before <= compared
               : comparison == FUTEX_OP_CMP_GT ? before > compared
                                               : before >= compared;
  long woken = wake_private(w, n, futex::everybody);
  return holds ? woken + wake_private(w2, n2, futex::everybody) : woken;
}

// The word holds the owner's number and the bit for waiters. Priorities are ignored: fibers have
// none.
long lock_pi(word* w, deadline until, bool only_tries) noexcept {
  std::uint32_t mine = std::uint32_t(own_tid());
  long r = look(w, 0);
  if (r < 0 && r != -EAGAIN) return r;
  for (std::uint32_t s = w->load();;) {
    if ((s & FUTEX_TID_MASK) == mine) return -EDEADLK;
    if (!(s & FUTEX_TID_MASK)) {
      if (w->compare_exchange_strong(s, mine | (s & (FUTEX_WAITERS | FUTEX_OWNER_DIED)))) return 0;
      continue;
    }
    if (only_tries) return -EAGAIN;
    if (!(s & FUTEX_WAITERS) && !w->compare_exchange_strong(s, s | FUTEX_WAITERS)) continue;
    int ended = futex::wait(w, s | FUTEX_WAITERS, until, futex::ends::by_wake);
    if (ended == -ETIMEDOUT) return ended;
    s = w->load();
  }
}

long unlock_pi(word* w) noexcept {
  long r = look(w, 0);
  if (r < 0 && r != -EAGAIN) return r;
  if ((w->load() & FUTEX_TID_MASK) != std::uint32_t(own_tid())) return -EPERM;
  // Clear the waiters bit with the owner and wake everybody: those who wait again set it again.
  w->store(0);
  futex::wake(w, INT32_MAX);
  return 0;
}

long futex_call(long a, long b, long c, long d, long e, long f) noexcept {
  auto* w = reinterpret_cast<word*>(a);
  auto* w2 = reinterpret_cast<word*>(e);
  auto* timeout = reinterpret_cast<const timespec*>(d);
  int operation = int(b) & ~(FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME);
  bool shared = !(b & FUTEX_PRIVATE_FLAG), realtime = b & FUTEX_CLOCK_REALTIME;
  auto value = std::uint32_t(c), bits = std::uint32_t(f);
  auto kernels = [&] { return sys::call(SYS_futex, a, b, c, d, e, f); };
  if (!ours()) return kernels();
  if (!threads_are_fibers.load(std::memory_order_relaxed)) {
    // Without the shim, fibers wait in our table and are woken there; kernel threads keep waiting
    // in the kernel.
    bool waits = operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET;
    bool wakes = operation == FUTEX_WAKE || operation == FUTEX_WAKE_BITSET;
    if (!(waits && may_wait()) && !wakes) return kernels();
  }
  deadline until;
  switch (operation) {
    case FUTEX_WAIT:
      if (realtime) return kernels();  // most kernels return ENOSYS
      bits = futex::everybody;
      [[fallthrough]];
    case FUTEX_WAIT_BITSET:
      if (bits == 0 || !read_deadline(until, timeout, operation == FUTEX_WAIT_BITSET, realtime))
        return kernels();
      if (!shared) return wait_private(w, value, until, bits);
      return may_wait() ? wait_shared(w, value, until, bits) : kernels();
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
      if (shared || !read_deadline(until, timeout, true, realtime || operation == FUTEX_LOCK_PI))
        return kernels();
      return lock_pi(w, until, false);
  }
  if (shared || realtime) return kernels();
  switch (operation) {
    case FUTEX_WAKE:
      return wake_private(w, int(c), futex::everybody);
    case FUTEX_WAKE_BITSET:
      return bits ? wake_private(w, int(c), bits) : -EINVAL;
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE: {
      if (int(c) < 0 || int(d) < 0 || misaligned(w) || misaligned(w2)) return -EINVAL;
      bool compares = operation == FUTEX_CMP_REQUEUE;
      long r = compares ? look(w, bits) : 0;
      if (r < 0) return r;
      futex::requeued done = futex::requeue(w, int(c), w2, int(d), compares ? &bits : nullptr);
      return done.woken < 0 ? -EAGAIN : done.woken + done.moved;
    }
    case FUTEX_WAKE_OP:
      return wake_op(w, int(c), w2, int(d), bits);
    case FUTEX_TRYLOCK_PI:
      return lock_pi(w, deadline::never(), true);
    case FUTEX_UNLOCK_PI:
      return unlock_pi(w);
    default:
      return kernels();
  }
}

// Newer system calls that each do a part of futex(2); older headers lack their numbers.
constexpr long futex_waitv = 449, futex_wake = 454, futex_wait = 455;
constexpr long word_of_32_bits = 2;  // a flag, like FUTEX_PRIVATE_FLAG

// A wait for several words is done in the kernel even if they are private: wake_private() wakes
// waiters there, too.
long wait_for_one_of(long a, long b, long c, long d, long e) noexcept {
  auto wait = [=] { return sys::call(futex_waitv, a, b, c, d, e); };
  if (!ours() || !may_wait()) return wait();
  forget_signals();
  return offload_interruptible(wait, d ? on_signal::always : on_signal::restart);
}

// wait(word, value, bits, flags, deadline, clock)
long wait_for_one(long a, long b, long c, long d, long e, long f) noexcept {
  auto kernels = [=] { return sys::call(futex_wait, a, b, c, d, e, f); };
  bool private_word = d == (word_of_32_bits | FUTEX_PRIVATE_FLAG);
  if (!ours() || !may_wait()) return kernels();
  deadline until;
  bool plain =
      private_word && b == std::uint32_t(b) && c && c == std::uint32_t(c) &&
      (f == CLOCK_MONOTONIC || f == CLOCK_REALTIME) &&
      read_deadline(until, reinterpret_cast<const timespec*>(e), true, f == CLOCK_REALTIME);
  if (plain)
    return wait_private(reinterpret_cast<word*>(a), std::uint32_t(b), until, std::uint32_t(c));
  forget_signals();
  return offload_interruptible(kernels, e ? on_signal::always : on_signal::restart);
}

// wake(word, bits, how many, flags)
long wake_some(long a, long b, long c, long d) noexcept {
  long r = sys::call(futex_wake, a, b, 0, d);  // wakes nobody: checks the arguments
  bool private_word = d == (word_of_32_bits | FUTEX_PRIVATE_FLAG);
  if (r < 0 || c < 1 || !ours() || !private_word) return sys::call(futex_wake, a, b, c, d);
  return wake_private(reinterpret_cast<word*>(a), int(c), std::uint32_t(b));
}

template <class T>
T* pointer(long v) noexcept {
  return reinterpret_cast<T*>(v);
}

// A call's time-out, to which the kernel writes the remaining time.
class time_out {
 public:
  explicit time_out(long theirs) noexcept
      : theirs_(pointer<timespec>(theirs)), ok_(!theirs || copy_in(time_, theirs_)) {
    if (theirs_ && ok_) until_ = time_from_now(&time_);
  }
  time_out(const time_out&) = delete;
  // False: the argument is invalid; the kernel reports that.
  bool ok() const noexcept { return ok_ && (!theirs_ || valid(&time_)); }
  const timespec* get() const noexcept { return theirs_ ? &time_ : nullptr; }
  void write_remaining() noexcept {
    if (theirs_) copy_out(theirs_, time_left(until_));
  }

 private:
  timespec time_{};
  timespec* theirs_;
  bool ok_;
  deadline until_ = deadline::never();
};

// The calls that may wait. True: handled; the result is in r, and errno is set.
bool waits(long& r, long number, long a, long b, long c, long d, long e, long f) noexcept {
  no_cancellation_point guard;
  switch (number) {
    // clang-format off
    case SYS_read: r = posix::read(int(a), pointer<void>(b), std::size_t(c)); return true;
    case SYS_write: r = posix::write(int(a), pointer<void>(b), std::size_t(c)); return true;
    case SYS_readv: r = posix::readv(int(a), pointer<iovec>(b), int(c)); return true;
    case SYS_writev: r = posix::writev(int(a), pointer<iovec>(b), int(c)); return true;
    case SYS_pread64: r = posix::pread(int(a), pointer<void>(b), std::size_t(c), d); return true;
    case SYS_pwrite64: r = posix::pwrite(int(a), pointer<void>(b), std::size_t(c), d); return true;
    case SYS_preadv: r = posix::preadv(int(a), pointer<iovec>(b), int(c), d); return true;
    case SYS_pwritev: r = posix::pwritev(int(a), pointer<iovec>(b), int(c), d); return true;
    case SYS_preadv2: r = posix::preadv2(int(a), pointer<iovec>(b), int(c), d, int(f)); return true;
    case SYS_pwritev2: r = posix::pwritev2(int(a), pointer<iovec>(b), int(c), d, int(f)); return true;
    case SYS_recvfrom: r = posix::recvfrom(int(a), pointer<void>(b), std::size_t(c), int(d), pointer<sockaddr>(e), pointer<socklen_t>(f)); return true;
    case SYS_recvmsg: r = posix::recvmsg(int(a), pointer<msghdr>(b), int(c)); return true;
    case SYS_recvmmsg: r = posix::recvmmsg(int(a), pointer<mmsghdr>(b), unsigned(c), int(d), pointer<timespec>(e)); return true;
    case SYS_sendto: r = posix::sendto(int(a), pointer<void>(b), std::size_t(c), int(d), pointer<sockaddr>(e), socklen_t(f)); return true;
    case SYS_sendmsg: r = posix::sendmsg(int(a), pointer<msghdr>(b), int(c)); return true;
    case SYS_sendmmsg: r = posix::sendmmsg(int(a), pointer<mmsghdr>(b), unsigned(c), int(d)); return true;
    case SYS_connect: r = posix::connect(int(a), pointer<sockaddr>(b), socklen_t(c)); return true;
    case SYS_accept: r = posix::accept(int(a), pointer<sockaddr>(b), pointer<socklen_t>(c)); return true;
    case SYS_accept4: r = posix::accept4(int(a), pointer<sockaddr>(b), pointer<socklen_t>(c), int(d)); return true;
    case SYS_sendfile: r = posix::sendfile(int(a), int(b), pointer<off_t>(c), std::size_t(d)); return true;
    case SYS_splice: r = posix::splice(int(a), pointer<off64_t>(b), int(c), pointer<off64_t>(d), std::size_t(e), unsigned(f)); return true;
    case SYS_tee: r = posix::tee(int(a), int(b), std::size_t(c), unsigned(d)); return true;
    case SYS_vmsplice: r = posix::vmsplice(int(a), pointer<iovec>(b), std::size_t(c), unsigned(d)); return true;
    case SYS_copy_file_range: r = posix::copy_file_range(int(a), pointer<off64_t>(b), int(c), pointer<off64_t>(d), std::size_t(e), unsigned(f)); return true;
#ifdef SYS_poll
    case SYS_poll: r = posix::poll(pointer<pollfd>(a), nfds_t(b), int(c)); return true;
    case SYS_epoll_wait: r = posix::epoll_wait(int(a), pointer<epoll_event>(b), int(c), int(d)); return true;
    case SYS_pause: r = posix::pause(); return true;
    case SYS_dup2: r = posix::dup2(int(a), int(b)); return true;
    case SYS_open: r = posix::open(pointer<char>(a), int(b), mode_t(c)); return true;
#endif
    case SYS_epoll_pwait: if (e && f != 8) return false; r = posix::epoll_pwait(int(a), pointer<epoll_event>(b), int(c), int(d), pointer<sigset_t>(e)); return true;
    case SYS_epoll_pwait2: if (e && f != 8) return false; r = posix::epoll_pwait2(int(a), pointer<epoll_event>(b), int(c), pointer<timespec>(d), pointer<sigset_t>(e)); return true;
    case SYS_nanosleep: r = posix::nanosleep(pointer<timespec>(a), pointer<timespec>(b)); return true;
    case SYS_close: r = posix::close(int(a)); return true;
    case SYS_dup3: r = posix::dup3(int(a), int(b), int(c)); return true;
    case SYS_close_range: r = posix::close_range(unsigned(a), unsigned(b), int(c)); return true;
    case SYS_openat: r = posix::openat(int(a), pointer<char>(b), int(c), mode_t(d)); return true;
    case SYS_fcntl: r = posix::fcntl(int(a), int(b), pointer<void>(c)); return true;
    case SYS_ioctl: r = posix::ioctl(int(a), (unsigned long)b, pointer<void>(c)); return true;
    case SYS_fallocate: r = posix::fallocate(int(a), int(b), c, d); return true;
    case SYS_getrandom: r = posix::getrandom(pointer<void>(a), std::size_t(b), unsigned(c)); return true;
    case SYS_flock: r = posix::flock(int(a), int(b)); return true;
    case SYS_fsync: r = posix::fsync(int(a)); return true;
    case SYS_fdatasync: r = posix::fdatasync(int(a)); return true;
    case SYS_syncfs: r = posix::syncfs(int(a)); return true;
    case SYS_msync: r = posix::msync(pointer<void>(a), std::size_t(b), int(c)); return true;
    case SYS_wait4: r = posix::wait4(pid_t(a), pointer<int>(b), int(c), pointer<rusage>(d)); return true;
    case SYS_mq_timedsend: r = posix::mq_timedsend(mqd_t(a), pointer<char>(b), std::size_t(c), unsigned(d), pointer<timespec>(e)); return true;
    case SYS_mq_timedreceive: r = posix::mq_timedreceive(mqd_t(a), pointer<char>(b), std::size_t(c), pointer<unsigned>(d), pointer<timespec>(e)); return true;
    case SYS_msgsnd: r = posix::msgsnd(int(a), pointer<void>(b), std::size_t(c), int(d)); return true;
    case SYS_msgrcv: r = posix::msgrcv(int(a), pointer<void>(b), std::size_t(c), d, int(e)); return true;
    case SYS_semop: r = posix::semop(int(a), pointer<sembuf>(b), std::size_t(c)); return true;
    case SYS_semtimedop: r = posix::semtimedop(int(a), pointer<sembuf>(b), std::size_t(c), pointer<timespec>(d)); return true;
    case SYS_rt_sigsuspend: if (b != 8) return false; r = posix::sigsuspend(pointer<sigset_t>(a)); return true;
    case SYS_rt_sigtimedwait: if (d != 8) return false; r = posix::sigtimedwait(pointer<sigset_t>(a), pointer<siginfo_t>(b), pointer<timespec>(c)); return true;
      // clang-format on
      // The functions access these time-outs directly, and ppoll and pselect do not write the
      // remaining time back as the system calls do; so pass a copy, and write the rest back.
#ifdef SYS_select
    case SYS_select: {
      timeval t{};
      if (e && !copy_in(t, pointer<timeval>(e))) return false;
      r = posix::select(int(a), pointer<fd_set>(b), pointer<fd_set>(c), pointer<fd_set>(d),
                        e ? &t : nullptr);
      if (e) copy_out(pointer<timeval>(e), t);
      return true;
    }
#endif
    case SYS_ppoll: {
      time_out t(c);
      if (!t.ok() || (d && e != 8)) return false;
      r = posix::ppoll(pointer<pollfd>(a), nfds_t(b), t.get(), pointer<sigset_t>(d));
      t.write_remaining();
      return true;
    }
    case SYS_pselect6: {
      struct {
        const sigset_t* mask;
        std::size_t size;
      } sixth{};
      time_out t(e);
      if (!t.ok() || (f && !copy_in(&sixth, pointer<void>(f), sizeof sixth)) ||
          (sixth.mask && sixth.size != 8))
        return false;
      r = posix::pselect(int(a), pointer<fd_set>(b), pointer<fd_set>(c), pointer<fd_set>(d),
                         t.get(), sixth.mask);
      t.write_remaining();
      return true;
    }
    // libaio's calls.
    case SYS_io_getevents: {
      timespec t{};
      if (e && (!copy_in(t, pointer<timespec>(e)) || (t.tv_sec == 0 && t.tv_nsec == 0)))
        return false;
      forget_signals();
      r = result(offload_interruptible([=] { return sys::call(SYS_io_getevents, a, b, c, d, e); },
                                       on_signal::always));
      return true;
    }
    case SYS_io_pgetevents: {
      struct {
        const sigset_t* mask;
        std::size_t size;
      } sixth{};
      timespec t{};
      if (e && (!copy_in(t, pointer<timespec>(e)) || (t.tv_sec == 0 && t.tv_nsec == 0)))
        return false;
      if ((f && !copy_in(&sixth, pointer<void>(f), sizeof sixth)) ||
          (sixth.mask && sixth.size != 8))
        return false;
      forget_signals();
      mask_while_waiting masked(sixth.mask);
      if (masked.error()) return r = result(masked.error()), true;
      r = result(offload_interruptible([=] { return sys::call(SYS_io_getevents, a, b, c, d, e); },
                                       on_signal::always));
      return true;
    }
    case SYS_clock_nanosleep:
      r = result<long>(-posix::clock_nanosleep(clockid_t(a), int(b), pointer<timespec>(c),
                                               pointer<timespec>(d)));
      return true;
    case SYS_waitid:
      if (e && (d & (WNOHANG | __WNOTHREAD))) return false;
      if (e) {
        forget_signals();
        r = result(offload_interruptible([=] { return sys::call(SYS_waitid, a, b, c, d, e); }));
        return true;
      }
      r = posix::waitid(idtype_t(a), id_t(b), pointer<siginfo_t>(c), int(d));
      return true;
    default:
      return false;
  }
}

// rt_sigaction(2), whose struct differs from sigaction(3)'s. The C library's restorer is kept.
long action_by_number(int signal, const sys::signal_action* given,
                      sys::signal_action* old) noexcept {
  constexpr unsigned long has_restorer = 0x04000000;
  sys::signal_action wanted, before;
  struct sigaction action {
  }, known{};
  if (given) {
    if (!copy_in(wanted, given)) return -EFAULT;
    memcpy(&action.sa_handler, &wanted.handler, sizeof wanted.handler);
    action.sa_flags = int(wanted.flags & ~has_restorer);
    memcpy(&action.sa_mask, &wanted.mask, sizeof wanted.mask);
  }
  // For what posix::sigaction() does not report.
  sys::sigaction(signal, nullptr, &before);
  if (posix::sigaction(signal, given ? &action : nullptr, &known) < 0) return -errno;
  if (!old) return 0;
  memcpy(&before.handler, &known.sa_handler, sizeof before.handler);
  before.flags = (before.flags & has_restorer) | (unsigned long)(unsigned)known.sa_flags;
  memcpy(&before.mask, &known.sa_mask, sizeof before.mask);
  return copy_out(old, before) ? 0 : -EFAULT;
}

template <class Call>
long fork_by_number(long flags, Call call) noexcept {
  if (flags & CLONE_VM) return call();
  core::prepare_for_child();
  long r = call();
  if (r == 0) bare_child_begins(flags & CLONE_FILES);
  else core::parent_continues();
  return r;
}

}  // namespace

long syscall(long number, long a, long b, long c, long d, long e, long f) {
  switch (number) {
    case SYS_futex:
      return result<long>(futex_call(a, b, c, d, e, f));
    case futex_waitv:
      return result<long>(wait_for_one_of(a, b, c, d, e));
    case futex_wait:
      return result<long>(wait_for_one(a, b, c, d, e, f));
    case futex_wake:
      return result<long>(wake_some(a, b, c, d));
    case SYS_io_uring_enter:
      return result<long>(enter_uring(int(a), unsigned(b), unsigned(c), unsigned(d),
                                      pointer<void>(e), std::size_t(f)));
    case SYS_gettid:
      return posix::gettid();
    // Fibers share their kernel thread's clear_child_tid address, so a thread that is a fiber must
    // not change it.
    case SYS_set_tid_address:
      if (this_thread && this_thread->stack_address) return posix::gettid();
      break;
    // (The C library's functions read the other clocks in user space, where a bad pointer crashes
    // instead of giving EFAULT.)
    case SYS_clock_gettime:
      if (a >= 0 && a != CLOCK_THREAD_CPUTIME_ID) break;
      return posix::clock_gettime(clockid_t(a), pointer<timespec>(b));
    case SYS_clock_getres:
      if (a >= 0) break;
      return posix::clock_getres(clockid_t(a), pointer<timespec>(b));
    case SYS_getrusage:
      return posix::getrusage(int(a), pointer<rusage>(b));
    case SYS_sched_yield:
      return posix::sched_yield();
    case SYS_prctl:
      return posix::prctl(int(a), (unsigned long)b, (unsigned long)c, (unsigned long)d,
                          (unsigned long)e);
    case SYS_sched_setaffinity:
      if (this_thread)
        return posix::sched_setaffinity(pid_t(a), std::size_t(b), pointer<cpu_set_t>(c));
      break;
    case SYS_sched_getaffinity:
      return result<long>(
          posix::sched_getaffinity_by_number(pid_t(a), std::size_t(b), pointer<cpu_set_t>(c)));
    case SYS_sched_rr_get_interval:
      return posix::sched_rr_get_interval(pid_t(a), pointer<timespec>(b));
    case SYS_sched_setscheduler:
      return posix::sched_setscheduler(pid_t(a), int(b), pointer<sched_param>(c));
    case SYS_sched_getscheduler:
      return posix::sched_getscheduler(pid_t(a));
    case SYS_sched_setparam:
      return posix::sched_setparam(pid_t(a), pointer<sched_param>(b));
    case SYS_sched_getparam:
      return posix::sched_getparam(pid_t(a), pointer<sched_param>(b));
    case SYS_sched_setattr:
      return result<int>(posix::sched_setattr(pid_t(a), pointer<void>(b), unsigned(c)));
    case SYS_sched_getattr:
      return result<int>(
          posix::sched_getattr(pid_t(a), pointer<void>(b), unsigned(c), unsigned(d)));
      // A child that gets a copy of the memory and returns here is a fork(2) for us.
#ifdef SYS_fork
    case SYS_fork:
      return fork_by_number(0, [&] { return real.syscall(number, a, b, c, d, e, f); });
#endif
    case SYS_clone:
      return fork_by_number(a, [&] { return real.syscall(number, a, b, c, d, e, f); });
    case SYS_clone3: {
      std::uint64_t flags = CLONE_VM;  // the first member of struct clone_args
      copy_in(flags, pointer<std::uint64_t>(a));
      return fork_by_number(long(flags), [&] { return real.syscall(number, a, b, c, d, e, f); });
    }
    case SYS_exit:
      if (this_thread) posix::pthread_exit(nullptr);
      break;
    case SYS_rt_sigprocmask:
      if (d == 8 && (!b || sys::readable(pointer<void>(b), 8)))
        return posix::sigprocmask(int(a), pointer<sigset_t>(b), pointer<sigset_t>(c));
      break;
    case SYS_rt_sigaction:
      if (d == 8 && a > 0 && a < _NSIG && a != 32 && a != 33)  // those two are the C library's
        return result<long>(action_by_number(int(a), pointer<sys::signal_action>(b),
                                             pointer<sys::signal_action>(c)));
      break;
    case SYS_rt_sigpending:
      if (b == 8) return posix::sigpending(pointer<sigset_t>(a));
      break;
    case SYS_sigaltstack:
      return posix::sigaltstack(pointer<stack_t>(a), pointer<stack_t>(b));
    case SYS_tgkill:
      return posix::tgkill(pid_t(a), pid_t(b), int(c));
    case SYS_tkill:
      return thread_of(int(a)) ? posix::tgkill(sys::getpid(), pid_t(a), int(b))
                               : real.syscall(number, a, b, c, d, e, f);
    case SYS_rt_tgsigqueueinfo:
      if (thread* t = thread_of(int(b)); t && c > 0 && c <= 64) {
        siginfo_t info;
        if (!copy_in(info, pointer<siginfo_t>(d))) return result<int>(-EFAULT);
        return result<int>(send_signal(*t, int(c), info));
      }
      break;
    case SYS_seccomp: {
      long r = real.syscall(number, a, b, c, d, e, f);
      bool installed = r == 0 || (r > 0 && (b & SECCOMP_FILTER_FLAG_NEW_LISTENER));
      if (installed && a == SECCOMP_SET_MODE_FILTER) sys::look_at_filter(*pointer<sock_fprog>(c));
      if (!c && a == SECCOMP_SET_MODE_FILTER) sys::expect_filter();
      return r;
    }
  }
  long r;
  if (changes_identity(r, number, a, b, c)) return result<long>(r);
  if (may_wait() && waits(r, number, a, b, c, d, e, f)) return r;
  return real.syscall(number, a, b, c, d, e, f);
}

}  // namespace tendril::posix
