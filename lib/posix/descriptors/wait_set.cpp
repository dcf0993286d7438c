#include "posix/descriptors/wait_set.hpp"

namespace tendril::posix {

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
    core::handlers_deferred quiet;
    for (std::size_t i = 0; i < count_; i++) {
      int r = h.io.add(w_[i]);
      // Ignore descriptors that cannot be watched: a regular file without requested events, or a
      // number above all that the process ever opened, which select(2) ignores.
      failed |= r < 0 && r != -EPERM && r != -EBADF;
      bad += r == -EBADF;
      watched += r == 0;
    }
    what.wakeable_by_system = watched == 0;  // then only a signal can end the wait
    // One was closed after the program's call checked it: the next attempt will report that.
    bool newly_bad = bad > bad_before;
    bad_before = bad;
    if (!failed && !newly_bad) why = park_unless_interrupted(what, until, on_signal::always);
    for (std::size_t i = 0; i < count_; i++) h.io.remove(w_[i]);
    if (ended && why == core::wake::signal) *ended = core::now();
  }
  errno = saved;
  if (failed) return -ENOMEM;
  int r = outcome(why, what, on_signal::always);
  return r == -EBADF ? 0 : r;  // closed meanwhile: the next attempt reports POLLNVAL or EBADF
}

}  // namespace tendril::posix
