#include "posix/signals/signalfd_loan.hpp"

#include <string.h>
#include <sys/signalfd.h>

#include <algorithm>

namespace tendril::posix {

void signalfd_loan::lend(const sigset_t* mask) noexcept {
  if (!in_hubs_process() || !my_hub().several_threads) return;
  hub& h = my_hub();
  core::current->enter_runtime();
  core::signal_state& s = core::current->storage->signals;
  std::uint64_t blocked = h.signals.own_mask();
  if (mask) blocked &= sys::readable(mask, 8) ? *reinterpret_cast<const std::uint64_t*>(mask) : 0;
  for (core::pending_signal* p = s.first; p; p = p->next) {
    p->loaned = (blocked & core::signal_bit(p->signal)) &&
                sys::call(SYS_rt_tgsigqueueinfo, h.pid, h.tid, p->signal, &p->info) == 0;
    loaned_ |= p->loaned;
  }
  if (!loaned_) core::current->leave_runtime();
}

// The kernel returns the signals that are pending for the thread before the process's.
void signalfd_loan::take_back() noexcept {
  core::signal_state& s = core::current->storage->signals;
  timespec at_once{};
  for (core::pending_signal* p = s.first; p; p = p->next) {
    std::uint64_t bit = core::signal_bit(p->signal);
    if (p->loaned) sys::call(SYS_rt_sigtimedwait, &bit, 0, &at_once, 8);
    p->loaned = false;
  }
  loaned_ = false;
  core::current->leave_runtime();
}

void signalfd_loan::forget(const iovec* v, long n) noexcept {
  core::signal_state& s = core::current->storage->signals;
  for (std::size_t at = 0; n >= long(sizeof(signalfd_siginfo)); n -= sizeof(signalfd_siginfo)) {
    // A record may be spread over several buffers.
    signalfd_siginfo info;
    for (std::size_t have = 0; have < sizeof info;) {
      std::size_t part = std::min(sizeof info - have, v->iov_len - at);
      memcpy(reinterpret_cast<char*>(&info) + have, static_cast<const char*>(v->iov_base) + at,
             part);
      have += part;
      at += part;
      if (at == v->iov_len) v++, at = 0;
    }
    core::pending_signal* p = s.first;
    while (p && !(p->loaned && p->signal == int(info.ssi_signo))) p = p->next;
    siginfo_t ignored;
    if (!p) continue;
    p->loaned = false;
    my_hub().signals.take_pending(*core::current->storage, core::signal_bit(p->signal), ignored);
  }
}

}  // namespace tendril::posix
