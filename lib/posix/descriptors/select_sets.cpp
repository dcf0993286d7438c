#include "posix/descriptors/select_sets.hpp"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <bit>

#include "events/own_descriptors.hpp"
#include "posix/signals/signalfd_loan.hpp"

namespace tendril::posix {

namespace {

bool is_programs(int fd) noexcept {
  return sys::call_if_allowed(SYS_fcntl, fd, F_GETFD) >= 0 && !core::own_descriptors::is_kept(fd);
}

// The program's highest descriptor up to that one; 0: it has none.
int highest_of_programs(int last) noexcept {
  // poll(2) looks at many at once. It refuses more than RLIMIT_NOFILE.
  constexpr int at_once = 256;
  pollfd looked_at[at_once];
  for (; last > 0; last -= at_once) {
    int count = std::min(last, at_once);
    for (int i = 0; i < count; i++) looked_at[i] = {.fd = last - i, .events = 0, .revents = 0};
    bool known = sys::poll_now(looked_at, std::size_t(count)) >= 0;
    for (int i = 0; i < count; i++) {
      if (!(known && looked_at[i].revents & POLLNVAL) && is_programs(last - i)) return last - i;
    }
  }
  return 0;
}

// The size of the program's descriptor table without the runtime's descriptors, as the kernel
// computes it: select(2) ignores numbers beyond, open or not.
int size_of_programs_table() noexcept {
  int highest = highest_of_programs(int(core::own_descriptors::highest()));
  // Sizes of a larger table are this times a power of two.
  constexpr int least = 64, step = 128;
  return highest < least ? least : int(std::bit_ceil(unsigned(highest / step + 1))) * step;
}

}  // namespace

int select_sets::reach_of_many(int n) noexcept {
  if (is_programs(n - 1)) return n;
  int size = size_of_programs_table();
  return n < size ? n : size;
}

long select_sets::now(const sigset_t* mask) noexcept {
  restore();
  struct {
    const sigset_t* mask;
    std::size_t size;
  } masked{mask, 8};
  signalfd_loan loan(mask);
  auto ask = [&] {
    timespec none{};
    long r = sys::call(SYS_pselect6, n_, theirs_[0], theirs_[1], theirs_[2], &none, &masked);
    changed_ = changed_ || r >= 0;
    return r;
  };
  long ready = ask();
  if (ready != -EBADF) return ready;
  int size = size_of_programs_table();
  if (size >= n_) return ready;
  n_ = size;
  return ask();
}

}  // namespace tendril::posix
