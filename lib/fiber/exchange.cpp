// Explicit switches: a message goes to another fiber, and the sender waits until one comes back.
#include "fiber/lifetime.hpp"
#include "fiber/switch.hpp"

namespace tendril::core {

switch_result fiber_exchange(fiber* to, message* m, const void* value_type) noexcept {
  fiber* self = current;
  if (!self || to->home != self->home) [[unlikely]]
    return no_switch(std::uintptr_t(refusal::other_thread));
  if (to->state != fiber_status::switched) [[unlikely]] {
    to = fiber_living(to);
    if (to == self) {
      self->inbound_message = m;
      return {nullptr, self};
    }
    if (to->state == fiber_status::parked || to->state == fiber_status::ready) {
      return no_switch(std::uintptr_t(refusal::in_hub));
    }
  }
  // A fiber that awaits no type is unwinding another fiber, and discards what arrives.
  const void* wanted = to->state == fiber_status::fresh ? to->value_type : to->awaits;
  if (wanted != value_type && wanted && !m->error) [[unlikely]] {
    return no_switch(std::uintptr_t(refusal::other_value_type));
  }
  if (to->state == fiber_status::fresh && !prepare(to)) [[unlikely]] {
    return no_switch(std::uintptr_t(refusal::no_memory));
  }
  self->enter_runtime();
  self->state = fiber_status::switched;
  self->awaits = self->value_type = value_type;
  to->inbound_message = m;
  depart(self, to);
  return jump_ending(to->sp, with_post_switch(self));
}

message* fiber_arrived(void* context, void* from, message* plain) noexcept {
  fiber* self = current;
  if (from != self) {
    arrive(self, context, from);
    self->leave_runtime_quietly();
  }
  self->awaits = nullptr;
  if (!is_plain(from) || from == self) return take_inbound_message(self);
  *plain = {};
  plain->value_type = self->value_type;
  plain->value = self->value;
  if (self->runtime_depth == 0 && self->home->handlers_are_due) [[unlikely]]
    self->home->calls->run_handlers_due();
  return plain;
}

}  // namespace tendril::core
