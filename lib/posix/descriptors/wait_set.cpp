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
    core::handlers_deferred quiet(h);
    for (std::size_t i = 0; i < count_; i++) {
      int r = h.io.add(w_[i]);
      // What cannot be watched and was not ready: a file polled for nothing, or a number that
      // select(2) looks past, beyond all that the process ever opened.
      failed |= r < 0 && r != -EPERM && r != -EBADF;
      bad += r == -EBADF;
      watched += r == 0;
    }
    what.wakeable_by_system = watched == 0;  // then only a signal may end this, if anything
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

}  // namespace tendril::posix
