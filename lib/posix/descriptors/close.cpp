// close(2), dup2(2) and whatever else ends what a descriptor number stands for. The hubs forget the number before
// it goes, so that no event of the old file wakes a reader of its successor, and its waiters wake with EBADF.
#include <tendril/posix.hpp>

#include <linux/close_range.h>

#include "posix/common/cooperate.hpp"
#include "posix/descriptors/stdio.hpp"

namespace tendril::posix {

namespace {

// Whether there is anything to tell: some kernel thread has a hub, and this is its process (not a vfork child,
// whose descriptors are its own).
bool hubs_concerned() noexcept {
  hub* h = hub::registry.load(std::memory_order_acquire);
  return h && (core::current ? in_hubs_process() : h->pid == sys::getpid());
}

// The hub that uses fd for itself, or null: such numbers do not exist for the program.
hub* owner_of(int fd) noexcept {
  hub* owner = nullptr;
  hub::for_each([&](hub& h) {
    if (h.io.owns(fd)) owner = &h;
  });
  return owner;
}

// Does `call`, which ends what fd stands for.
template <class Call>
auto replacing(int fd, Call call) noexcept {
  core::descriptor* d = core::descriptors::at(fd);
  if (d) d->closing.store(true, std::memory_order_relaxed);
  core::forget_descriptor(fd);
  auto r = call();
  int saved = errno;
  if (d) d->closing.store(false, std::memory_order_release);
  core::wake_closed_waiters(fd);
  errno = saved;
  return r;
}

bool open_descriptor(int fd) noexcept { return sys::call(SYS_fcntl, fd, F_GETFD) >= 0; }

}  // namespace

int close(int fd) {
  if (!hubs_concerned()) return real.close(fd);
  if (owner_of(fd)) return result<int>(-EBADF);
  return replacing(fd, [&] { return real.close(fd); });
}

int dup2(int from, int to) {
  if (from == to || !hubs_concerned() || !open_descriptor(from)) return real.dup2(from, to);
  if (hub* h = owner_of(to)) h->io.move_away(to);
  return replacing(to, [&] { return real.dup2(from, to); });
}

int dup3(int from, int to, int flags) {
  if (from == to || !hubs_concerned() || !open_descriptor(from) || (flags & ~O_CLOEXEC)) return real.dup3(from, to, flags);
  if (hub* h = owner_of(to)) h->io.move_away(to);
  return replacing(to, [&] { return real.dup3(from, to, flags); });
}

int close_range(unsigned first, unsigned last, int flags) {
  // What closes nothing, or is refused.
  if (!hubs_concerned() || first > last || (flags & ~CLOSE_RANGE_UNSHARE)) return real.close_range(first, last, flags);
  // Everything that is or was open in the range, with the hubs' own descriptors left out.
  int own[64];
  int count = 0;
  hub::for_each([&](hub& h) {
    h.io.each_own([&](int fd) {
      if (count < 64 && unsigned(fd) >= first && unsigned(fd) <= last) own[count++] = fd;
    });
  });
  for (int i = 1; i < count; i++) {
    for (int k = i; k > 0 && own[k] < own[k - 1]; k--) std::swap(own[k], own[k - 1]);
  }
  core::descriptors::each_known(first, last, [](int fd) { core::forget_descriptor(fd); });
  int r = 0;
  for (int i = 0; i <= count && r == 0; i++) {
    unsigned end = i < count ? unsigned(own[i]) - 1 : last;
    if (first <= end && !(i < count && own[i] == 0)) r = real.close_range(first, end, flags);
    if (i < count) first = unsigned(own[i]) + 1;
    if (i < count && unsigned(own[i]) == last) break;
  }
  int saved = errno;
  hub::for_each([](hub& h) {
    if (core::current && &h == hub::of(core::current)) h.io.wake_all_closed();
    else h.note_closed();
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
  int r = replacing(fd, [&] { return real.fclose(f); });
  if (written) return r;
  errno = error;
  return EOF;
}

// (A queue's descriptor is one like any other, on Linux.)
int mq_close(int queue) { return hubs_concerned() ? posix::close(queue) : real.mq_close(queue); }

FILE* freopen(const char* path, const char* mode, FILE* f) {
  int fd = hubs_concerned() ? fileno(f) : -1;
  if (fd < 0) return real.freopen(path, mode, f);
  ready_to_close(f);
  return replacing(fd, [&] { return real.freopen(path, mode, f); });
}

}  // namespace tendril::posix
