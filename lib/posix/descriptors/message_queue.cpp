// POSIX message queues (mq_overview(7)); System V message queues and semaphores (msgrcv(2),
// semop(2)).
#include <string.h>
#include <tendril/posix.hpp>

#include "posix/common/futex.hpp"
#include "posix/common/offload.hpp"

namespace tendril::posix {

namespace {

// A call with a time-out in the past is the only non-blocking form.
constexpr timespec long_ago{.tv_sec = 0, .tv_nsec = 0};

// `attempt` makes the call with the given time-out. A waiter must be in the kernel's own queue, on
// a helper thread: messages go to the waiters in turn, and mq_notify(3) reports only messages for
// which there is no waiter.
template <class Attempt>
long queue_until(const timespec* until, Attempt attempt) noexcept {
  long r = attempt(&long_ago);
  if (r != -ETIMEDOUT) {
    my_hub().charge_budget();
    return r;
  }
  return offload_interruptible([&]() noexcept { return attempt(until); });
}

}  // namespace

int mq_timedsend(mqd_t queue, const char* text, size_t n, unsigned priority,
                 const timespec* until) {
  timespec t;
  if (!cooperative() || (until && (!copy_in(t, until) || !valid(&t)))) {
    return real.mq_timedsend(queue, text, n, priority, until);
  }
  return result<int>(queue_until(until ? &t : nullptr, [&](const timespec* end) noexcept {
    return sys::call(SYS_mq_timedsend, queue, text, n, priority, end);
  }));
}

int mq_send(mqd_t queue, const char* text, size_t n, unsigned priority) {
  if (!cooperative()) return real.mq_send(queue, text, n, priority);
  return posix::mq_timedsend(queue, text, n, priority, nullptr);
}

ssize_t mq_timedreceive(mqd_t queue, char* text, size_t n, unsigned* priority,
                        const timespec* until) {
  timespec t;
  if (!cooperative() || (until && (!copy_in(t, until) || !valid(&t)))) {
    return real.mq_timedreceive(queue, text, n, priority, until);
  }
  return result<ssize_t>(queue_until(until ? &t : nullptr, [&](const timespec* end) noexcept {
    return sys::call(SYS_mq_timedreceive, queue, text, n, priority, end);
  }));
}

ssize_t mq_receive(mqd_t queue, char* text, size_t n, unsigned* priority) {
  if (!cooperative()) return real.mq_receive(queue, text, n, priority);
  return posix::mq_timedreceive(queue, text, n, priority, nullptr);
}

// The following are never restarted after a handler, even with SA_RESTART.

int msgsnd(int queue, const void* message, size_t n, int flags) {
  if ((flags & IPC_NOWAIT) || !cooperative()) return real.msgsnd(queue, message, n, flags);
  long r = sys::call(SYS_msgsnd, queue, message, n, flags | IPC_NOWAIT);
  if (r == -EAGAIN) {
    r = offload_interruptible([&] { return sys::call(SYS_msgsnd, queue, message, n, flags); },
                              on_signal::always);
  }
  return result<int>(r);
}

ssize_t msgrcv(int queue, void* message, size_t n, long type, int flags) {
  if ((flags & IPC_NOWAIT) || !cooperative()) return real.msgrcv(queue, message, n, type, flags);
  long r = sys::call(SYS_msgrcv, queue, message, n, type, flags | IPC_NOWAIT);
  if (r == -ENOMSG) {
    r = offload_interruptible([&] { return sys::call(SYS_msgrcv, queue, message, n, type, flags); },
                              on_signal::always);
  }
  return result<ssize_t>(r);
}

int semtimedop(int set, sembuf* operations, size_t n, const timespec* timeout) {
  constexpr size_t few = 64;
  sembuf at_once[few];
  timespec t;
  if (!cooperative() || n == 0 || n > few || (timeout && (!copy_in(t, timeout) || !valid(&t)))) {
    return real.semtimedop(set, operations, n, timeout);
  }
  if (!sys::readable(operations, n * sizeof *operations)) return result<int>(-EFAULT);
  memcpy(at_once, operations, n * sizeof *operations);
  for (size_t i = 0; i < n; i++) at_once[i].sem_flg |= IPC_NOWAIT;
  deadline until = time_from_now(timeout ? &t : nullptr);
  long r = sys::call(SYS_semtimedop, set, at_once, n, nullptr);
  if (r == -EAGAIN) {
    // The program may have asked for that itself: the call checks.
    r = offload_interruptible(
        [&] {
          timespec left = time_left(until);
          return sys::call(SYS_semtimedop, set, operations, n, until.is_never() ? nullptr : &left);
        },
        on_signal::always);
  }
  return result<int>(r);
}

int semop(int set, sembuf* operations, size_t n) {
  if (!cooperative()) return real.semop(set, operations, n);
  return posix::semtimedop(set, operations, n, nullptr);
}

}  // namespace tendril::posix
