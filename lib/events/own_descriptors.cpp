#include "events/own_descriptors.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

namespace tendril::core::own_descriptors {

namespace {

// The mark: a value of fcntl(2)'s F_SETSIG, the signal that input on the description would raise if
// O_ASYNC were set. The C library hides this signal number from programs, so none of their files
// has it.
constexpr long mark = 33;

// The descriptor table is an array, which fork copies up to the highest number: 32,768 numbers take
// 256 KB and some 100 us. So where the limit is higher, our numbers stay below this one, or below
// twice the number that the program has reached.
constexpr std::uint64_t high_enough = 1 << 15;

long control(int fd, int command, std::uint64_t argument = 0) noexcept {
  return sys::call_if_allowed(SYS_fcntl, fd, command, argument);
}

bool limits(std::uint64_t (&both)[2]) noexcept {
  return sys::call_if_allowed(SYS_prlimit64, 0, RLIMIT_NOFILE, 0, both) == 0;
}

// Duplicates fd to one of the highest free numbers below `top`. While there is no free one, the
// search begins further below each time.
int duplicate_high(int fd, std::uint64_t top) noexcept {
  constexpr std::uint64_t lowest = 3;
  for (std::uint64_t room = 2;; room *= 4) {
    std::uint64_t from = top > lowest + room ? top - room : lowest;
    int high = int(control(fd, F_DUPFD_CLOEXEC, from));
    if (high >= 0 || from == lowest) return high;
  }
}

void belongs_to(int fd, const void* owner) noexcept {
  if (descriptor* d = descriptors::at(fd)) d->owner.store(owner, std::memory_order_release);
}

bool is_marked(int fd) noexcept { return control(fd, F_GETSIG) == mark; }

}  // namespace

unsigned highest(int programs) noexcept {
  std::uint64_t limit[2], enough = std::uint64_t(programs) * 2;
  if (!limits(limit)) return 1024;
  if (enough < high_enough) enough = high_enough;
  return unsigned(limit[0] < enough ? limit[0] : enough);
}

int keep(int fd, const void* owner, bool may_stay) noexcept {
  if (fd < 0) return fd;
  int high = int(control(fd, F_SETSIG, mark));
  if (high >= 0) high = duplicate_high(fd, highest());
  if (high >= 0 && !descriptors::at(high)) {
    sys::close(high);
    high = -ENOMEM;
  }
  if (high == -EMFILE && may_stay && fd > 2) high = fd;
  else sys::close(fd);
  if (high >= 0) belongs_to(high, owner);
  return high;
}

int move(int fd, const void* owner, int least) noexcept {
  int other = duplicate_high(fd, highest(least));
  if (other >= 0) belongs_to(other, owner);
  return other;
}

bool is_listed(int fd, const void* owner) noexcept {
  if (fd < 0) return false;
  descriptor* d = descriptors::at(fd);
  return d && d->owner.load(std::memory_order_acquire) == owner;
}

bool is_kept(int fd, const void* owner) noexcept { return is_listed(fd, owner) && is_marked(fd); }

bool is_kept(int fd) noexcept {
  if (fd < 0 || !descriptors::is_owned(fd)) return false;
  return is_marked(fd);
}

bool hand_over(int fd, const void* owner, const void* to) noexcept {
  if (!is_kept(fd, owner)) return false;
  belongs_to(fd, to);
  return true;
}

void release(int fd, const void* owner) noexcept {
  if (!is_kept(fd, owner)) return;
  belongs_to(fd, nullptr);
  sys::close(fd);
}

void give_up(int fd) noexcept { belongs_to(fd, nullptr); }

// Whether this is the only kernel thread of the process.
static bool alone() noexcept {
  struct stat tasks;
  return sys::call(SYS_newfstatat, AT_FDCWD, "/proc/self/task", &tasks, 0) == 0 &&
         tasks.st_nlink == 3;
}

raised_limit::raised_limit() noexcept {
  if (!limits(before_) || before_[0] >= before_[1] || !alone()) return;
  // At most twice the soft limit, so that the table grows only once.
  std::uint64_t twice = before_[0] < 512 ? 1024 : before_[0] * 2;
  std::uint64_t more[2] = {twice < before_[1] ? twice : before_[1], before_[1]};
  raised_ = sys::call_if_allowed(SYS_prlimit64, 0, RLIMIT_NOFILE, more, 0) == 0;
}

raised_limit::~raised_limit() {
  if (raised_) sys::call_if_allowed(SYS_prlimit64, 0, RLIMIT_NOFILE, before_, 0);
}

}  // namespace tendril::core::own_descriptors
