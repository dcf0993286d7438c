// wait_report() of the seam: which fiber waits for what on this kernel thread.
#include <string.h>

#include "scheduler/home.hpp"

namespace tendril::core {

std::size_t wait_report(char* out, std::size_t n, const wait_info* mine) noexcept {
  static const char* const kinds[] = {"sleeps",
                                      "waits for task",
                                      "waits for descriptor",
                                      "waits for descriptors",
                                      "waits for a child process",
                                      "waits for a helper thread",
                                      "waits for a signal",
                                      "waits for a lock",
                                      "waits for an event",
                                      "waits for a queue",
                                      "waits"};
  std::size_t used = 0;
  auto put = [&](sys::text t) {
    std::size_t take = t.n < n - 1 - used ? t.n : n - 1 - used;
    memcpy(out + used, t.p, take);
    used += take;
  };
  hub& h = hub_here();
  for (fiber* f = h.fibers.front(); f; f = h.fibers.after(*f)) {
    if (f->state == fiber_status::finished) continue;
    put("  fiber ");
    put(sys::number(long(f->id)));
    if (f->name[0]) put(" '"), put(f->name), put("'");
    put(" ");
    const wait_info* waiting = f == current                       ? mine
                               : f->state == fiber_status::parked ? f->waiting
                                                                  : nullptr;
    if (f->state == fiber_status::switched) {
      put("has switched to another fiber");
    } else if (!waiting) {
      put("can run");
    } else {
      put(kinds[int(waiting->kind)]);
      if (waiting->kind == wait_kind::task && waiting->target) {
        put(" ");
        const fiber* on = static_cast<const fiber*>(waiting->target);
        put(sys::number(long(on->id)));
        if (on->name[0]) put(" '"), put(on->name), put("'");
      } else if (waiting->fd >= 0) {
        put(" ");
        put(sys::number(waiting->fd));
      }
    }
    put("\n");
  }
  out[used] = 0;
  return used;
}

}  // namespace tendril::core
