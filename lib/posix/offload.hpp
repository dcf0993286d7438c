// Making a call on a helper thread, with the fiber parked meanwhile.
#pragma once

#include <errno.h>
#include <stdlib.h>

#include <new>
#include <utility>

#include "../helpers.hpp"
#include "cooperate.hpp"

namespace tendril::posix {

// Calls f() on a helper thread and waits for it, whatever happens: for calls that end soon and work on the
// caller's memory (disk). Returns f's result; f leaves errno where it is wanted itself.
template <class F>
auto offload(F f) noexcept {
  if (!in_hubs_process()) return f();
  struct job : core::helper_job {
    F* call;
    decltype(f()) value;
  } j;
  j.call = &f;
  j.run = [](core::helper_job& base) noexcept {
    job& self = static_cast<job&>(base);
    self.value = (*self.call)();
  };
  int saved = errno;
  core::start_on_helper(j);
  core::wait_for_helper(j, false);
  errno = saved;
  return j.value;
}

// For calls that may take for ever: `Call` (movable, owns what it works on) has run(), on a helper thread. When
// the fiber is killed, or a signal handler ran, it is left behind and destroyed when run() returns, after its
// undo() was called. Returns -ECANCELED or -EINTR then, 0 otherwise; -ENOMEM. `out` gets the call back.
template <class Call>
int offload_abandonable(Call& out, on_signal rule = on_signal::restart) noexcept {
  if (!in_hubs_process()) return out.run(), 0;
  struct job : core::helper_job {
    Call call;
    explicit job(Call&& c) noexcept : call(std::move(c)) {}
  };
  void* memory = malloc(sizeof(job));
  if (!memory) return -ENOMEM;
  job* j = new (memory) job(std::move(out));
  j->run = [](core::helper_job& base) noexcept { static_cast<job&>(base).call.run(); };
  j->abandon = [](core::helper_job& base) noexcept {
    job& self = static_cast<job&>(base);
    self.call.undo();
    self.~job();
    free(&self);
  };
  int saved = errno;
  signal_watch watch(my_hub());
  core::start_on_helper(*j);
  core::wake w;
  do w = core::wait_for_helper(*j, true);
  while (w == core::wake::signal && !watch.interrupts(rule));
  if (w != core::wake::unparked && !core::leave_to_helper(*j)) w = core::wake::unparked;
  errno = saved;
  if (w == core::wake::interrupted) return -ECANCELED;
  if (w == core::wake::signal) return -EINTR;
  out = std::move(j->call);
  j->~job();
  free(j);
  return 0;
}

}  // namespace tendril::posix
