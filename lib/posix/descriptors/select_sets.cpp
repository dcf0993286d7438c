#include "posix/descriptors/select_sets.hpp"

#include <errno.h>
#include <fcntl.h>

#include <bit>

#include "events/own_descriptors.hpp"
#include "posix/signals/signalfd_loan.hpp"

namespace tendril::posix {

namespace {

bool is_programs(int fd) noexcept {
  return sys::call_if_allowed(SYS_fcntl, fd, F_GETFD) >= 0 && !core::own_descriptors::is_kept(fd);
}

// The size of the program's descriptor table without the runtime's descriptors, as the kernel
// computes it: select(2) ignores numbers beyond, open or not.
int size_of_programs_table() noexcept {
  int highest = int(core::own_descriptors::highest());
  while (highest > 0 && !is_programs(highest)) highest--;
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
    return sys::call(SYS_pselect6, n_, theirs_[0], theirs_[1], theirs_[2], &none, &masked);
  };
  long ready = ask();
  if (ready != -EBADF) return ready;
  int size = size_of_programs_table();
  if (size >= n_) return ready;
  n_ = size;
  return ask();
}

}  // namespace tendril::posix
