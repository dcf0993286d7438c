// aio_suspend(3), lio_listio(3), gai_suspend(3). The C library's threads do the work, and report
// its end only to waiters in the kernel, so for a fiber we poll.
#include <tendril/posix.hpp>

#include <algorithm>

#include "posix/common/cooperate.hpp"

namespace tendril::posix {

namespace {

// Waits until done() is true: 0; otherwise -ETIMEDOUT, -EINTR, or -ECANCELED if `cancellable`.
template <class Done>
int wait_asking(deadline until, on_signal rule, bool cancellable, Done done) noexcept {
  core::wait_info what;
  what.wakeable_by_system = what.interruptible = true;
  what.uninterruptible = !cancellable;
  int saved = errno;
  for (core::nanoseconds pause = 50'000;; pause = pause < 5'000'000 ? pause * 2 : pause) {
    bool is = done();
    errno = saved;
    if (is) return 0;
    core::nanoseconds now = core::now();
    if (until.passed(now)) return -ETIMEDOUT;
    int r = wait_parked(what, deadline{std::min(until.at, now + pause)}, rule);
    if (r < 0 && r != -ETIMEDOUT) return r;
  }
}

bool is_request(const aiocb* r) noexcept { return r && r->aio_lio_opcode != LIO_NOP; }

template <class F>
bool any_request(aiocb* const* list, int n, F f) noexcept {
  return std::any_of(list, list + n,
                     [&](const aiocb* r) { return is_request(r) && f(aio_error(r)); });
}

}  // namespace

int aio_suspend(const aiocb* const* list, int n, const timespec* timeout) {
  if (!cooperative() || !valid(timeout)) return real.aio_suspend(list, n, timeout);
  constexpr timespec at_once{.tv_sec = 0, .tv_nsec = 0};
  int error = 0;
  // as futex(2), by which the C library waits
  on_signal rule = timeout ? on_signal::always : on_signal::restart;
  int r = wait_asking(time_from_now(timeout), rule, true, [&] {
    error = real.aio_suspend(list, n, &at_once) == 0 ? 0 : errno;
    return error != EAGAIN && error != EINTR;  // a tick, say; a handler ends wait_asking()
  });
  if (r == -ETIMEDOUT) r = -EAGAIN;
  return result<int>(r < 0 ? r : -error);
}

int gai_suspend(const gaicb* const* list, int n, const timespec* timeout) {
  if (!cooperative() || !valid(timeout)) return real.gai_suspend(list, n, timeout);
  auto under_way = [=] {
    return std::count_if(list, list + (n > 0 ? n : 0), [](const gaicb* r) {
      return r && gai_error(const_cast<gaicb*>(r)) == EAI_INPROGRESS;
    });
  };
  auto before = under_way();
  if (before == 0) return EAI_ALLDONE;
  int r = wait_asking(time_from_now(timeout), on_signal::always, true,
                      [&] { return under_way() < before; });
  if (r == -ECANCELED) act_on_cancel();
  return r == 0 ? 0 : r == -ETIMEDOUT ? EAI_AGAIN : EAI_INTR;
}

int lio_listio(int mode, aiocb* const* list, int n, sigevent* event) {
  if (mode != LIO_WAIT || n < 0 || !cooperative()) return real.lio_listio(mode, list, n, event);
  // With LIO_WAIT the result reports the end, so no signal is sent.
  int saved = errno;
  bool all_begun = real.lio_listio(LIO_NOWAIT, list, n, nullptr) == 0;
  if (!all_begun && !any_request(list, n, [](int e) { return e != EAGAIN && e != EINVAL; }))
    return -1;
  errno = saved;
  int r = wait_asking(deadline::never(), on_signal::restart, false, [&] {
    return !any_request(list, n, [](int e) { return e == EINPROGRESS; });
  });
  if (r == 0 && (!all_begun || any_request(list, n, [](int e) { return e != 0; }))) r = -EIO;
  return result<int>(r);
}

}  // namespace tendril::posix
