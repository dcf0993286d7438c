#include "fiber/trace.hpp"

namespace tendril::core {

void report_to_tracer(fiber* from, fiber* self) noexcept {
  if (from->in_trace || self->in_trace) return;
  fiber_home* home = self->home;
  void* context = home->trace_context;
  message* inbound_message = self->inbound_message;
  fiber* to_reap = home->to_reap;
  bool thrown = inbound_message && (inbound_message->error || inbound_message->exit);
  // The callback may drop handles, and even switch: set aside what has arrived.
  self->inbound_message = nullptr;
  home->to_reap = nullptr;
  fiber_ref(from);  // there may be no other reference to it, and the callback makes handles to it
  self->in_trace = true;
  void* failure = home->trace(context, from, self, thrown);
  self->in_trace = false;
  self->inbound_message = inbound_message;
  home->to_reap = to_reap;
  if (from->refs.fetch_sub(1, std::memory_order_acq_rel) == 1 && !from->started) {
    set_orphan(from, true);
    left_behind(from);
  }
  if (!failure) return;
  if (home->trace && home->trace_context == context) trace(home, nullptr, nullptr, nullptr);
  // Of two failures that have not been reported yet, the first is kept.
  if (!home->trace_failure) home->trace_failure = failure;
}

void trace(fiber_home* home, tracer t, void* context, void (*drop)(void*) noexcept) noexcept {
  void* old = home->trace ? home->trace_context : nullptr;
  auto* drop_old = home->drop_trace_context;
  home->trace = t;
  home->needs_slow_path = sanitized || t;
  for (fiber* f = home->fibers.front(); f; f = home->fibers.after(*f)) update_needs_slow_path(*f);
  home->trace_context = context;
  home->drop_trace_context = drop;
  if (old) drop_old(old);
}

void* tracer_context() noexcept {
  return current && current->home->trace ? current->home->trace_context : nullptr;
}

}  // namespace tendril::core
