// close(2), dup2(2) and the other calls that end what a descriptor number stands for. The hubs
// forget the number first, so that no event of the old file wakes a reader of the next file with
// that number; waiters on the old file get EBADF.
#include <tendril/posix.hpp>

#include <linux/close_range.h>

#include "events/own_descriptors.hpp"
#include "posix/common/offload.hpp"
#include "posix/descriptors/close.hpp"
#include "posix/descriptors/stdio.hpp"
#include "scheduler/closing.hpp"
#include "scheduler/hub_registry.hpp"

namespace tendril::posix {

namespace {

// Whether hubs must be informed: some kernel thread has a hub, and this is its process (not a vfork
// child, which has its own descriptors).
bool hubs_concerned() noexcept {
  hub* h = core::hubs.front();
  return h && (core::current ? in_hubs_process() : h->pid == sys::getpid());
}

// The program wants to use a number that may be one of the runtime's.
void make_way(int fd) noexcept {
  if (!core::own_descriptors::is_kept(fd)) return;
  core::hubs.for_each([&](hub& h) { h.io.make_way(fd); });
  core::own_descriptors::give_up(fd);
}

std::atomic<bool> may_linger{false};

// Whether closing fd may wait for data that is not sent yet.
bool lingers(int fd) noexcept {
  if (!may_linger.load(std::memory_order_relaxed)) [[likely]]
    return false;
  linger l{};
  socklen_t n = sizeof l;
  return sys::call_if_allowed(SYS_getsockopt, fd, SOL_SOCKET, SO_LINGER, &l, &n) == 0 &&
         l.l_onoff && l.l_linger > 0;
}

// Makes a call that closes a lingering socket: a helper waits. As in the kernel, a handler ends the
// wait, but not the call, which has closed the descriptor by then.
template <class Call>
auto linger_on_helper(Call call) noexcept {
  decltype(call()) value{};
  bool made = false;
  int error = 0;
  offload_interruptible([&]() noexcept {
    errno = 0;
    value = call();
    error = errno;
    made = true;
    return 0L;
  });
  if (!made) return call();  // a handler interrupted before the call was made
  if (error) errno = error;
  return value;
}

// Makes `call`, which ends what fd stands for. `here`: only this kernel thread can make it.
template <class Call>
auto replacing(int fd, Call call, bool here = false) noexcept {
  core::descriptor* d = core::descriptors::at(fd);
  bool waits = !here && lingers(fd) && may_wait();
  if (d) d->closing.store(true, std::memory_order_relaxed);
  core::forget_descriptor(fd);
  auto r = waits ? linger_on_helper(call) : call();
  int saved = errno;
  if (d) d->closing.store(false, std::memory_order_release);
  core::wake_closed_waiters(fd);
  errno = saved;
  return r;
}

bool open_descriptor(int fd) noexcept { return sys::call_if_allowed(SYS_fcntl, fd, F_GETFD) >= 0; }

}  // namespace

void sockets_may_linger() noexcept { may_linger.store(true, std::memory_order_relaxed); }

int close(int fd) {
  if (!hubs_concerned()) return real.close(fd);
  // the program has no such descriptor
  if (core::own_descriptors::is_kept(fd)) return result<int>(-EBADF);
  return replacing(fd, [&] { return real.close(fd); });
}

int dup2(int from, int to) {
  if (from == to || !hubs_concerned() || !open_descriptor(from)) return real.dup2(from, to);
  make_way(to);
  return replacing(to, [&] { return real.dup2(from, to); });
}

int dup3(int from, int to, int flags) {
  if (from == to || !hubs_concerned() || !open_descriptor(from) || (flags & ~O_CLOEXEC))
    return real.dup3(from, to, flags);
  make_way(to);
  return replacing(to, [&] { return real.dup3(from, to, flags); });
}

int close_range(unsigned first, unsigned last, int flags) {
  // Calls that close nothing, or are refused.
  if (!hubs_concerned() || first > last || (flags & ~CLOSE_RANGE_UNSHARE))
    return real.close_range(first, last, flags);
  // Forget everything that is or was open in the range, and close it except the runtime's
  // descriptors.
  bool waits = false;
  core::descriptors::each_known(first, last, [&](int fd) {
    waits |= lingers(fd);
    core::forget_descriptor(fd);
  });
  waits = waits && !(flags & CLOSE_RANGE_UNSHARE) && may_wait();
  auto close_part = [&](unsigned begin, unsigned end) noexcept {
    auto part = [=]() noexcept { return real.close_range(begin, end, flags); };
    return waits ? linger_on_helper(part) : part();
  };
  int r = 0;
  unsigned from = first;
  core::descriptors::each_known(first, last, [&](int fd) {
    if (r < 0 || !core::own_descriptors::is_kept(fd)) return;
    if (from < unsigned(fd)) r = close_part(from, unsigned(fd) - 1);
    from = unsigned(fd) + 1;
  });
  if (r == 0 && from <= last) r = close_part(from, last);
  int saved = errno;
  core::hubs.for_each([](hub& h) {
    if (core::current && &h == hub::of(core::current)) h.io.wake_all_closed();
    else h.note_many_closed();
  });
  errno = saved;
  return r;
}

void closefrom(int first) {
  if (!hubs_concerned()) return real.closefrom(first);
  close_range(unsigned(first < 0 ? 0 : first), ~0U, 0);
}

int fclose(FILE* f) {
  int fd = hubs_concerned() ? fileno(f) : -1;
  if (fd < 0) return real.fclose(f);
  bool written = ready_to_close(f);
  int error = errno;
  int r = replacing(
      fd, [&] { return real.fclose(f); }, is_locked(f));
  if (written) return r;
  errno = error;
  return EOF;
}

// (On Linux a queue's descriptor is a file descriptor.)
int mq_close(int queue) { return hubs_concerned() ? posix::close(queue) : real.mq_close(queue); }

FILE* freopen(const char* path, const char* mode, FILE* f) {
  int fd = hubs_concerned() ? fileno(f) : -1;
  if (fd < 0) return real.freopen(path, mode, f);
  ready_to_close(f);
  return replacing(
      fd, [&] { return real.freopen(path, mode, f); }, is_locked(f));
}

}  // namespace tendril::posix
