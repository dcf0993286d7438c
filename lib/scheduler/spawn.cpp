// Making fibers, and starting tasks.
#include "fiber/lifetime.hpp"
#include "scheduler/home.hpp"

namespace tendril::core {

namespace {

[[gnu::noinline]] fiber* refill_for_next(hub& h) noexcept {
  h.refill_run_queue();
  return h.ready.pop();
}
fiber* after_task(fiber* self) noexcept {
  hub& h = *hub::of(self);
  return h.needs_refill() ? refill_for_next(h) : h.ready.pop();
}
fiber* after_thread(fiber* self) noexcept {
  hub& h = *hub::of(self);
  // A fiber waits for this stack to be left. If there is nothing else to run, the hub would poll on
  // it: wake the main fiber, so that the hub polls on that one's stack.
  if (h.ready.empty()) [[unlikely]]
    hub::wake(&h.main, wake::unparked);
  return h.next();
}

}  // namespace

fiber* fiber_new(std::size_t payload_size, const body& b, const fiber_options& o) noexcept {
  fiber* self = ensure_current();
  self->home->has_own_fibers = true;
  return make_fiber(self, payload_size, b, o);
}

fiber* task_new(std::size_t payload_size, const body& b, std::size_t stack_size,
                const char* name) noexcept {
  fiber* self = ensure_current();
  self->home->has_own_fibers = true;
  return make_task(self, payload_size, b, stack_size, name);
}

fiber* plain_task_new(std::size_t payload_size, const body& b) noexcept {
  // The rare cases are one tail call, so that the usual case needs no stack frame.
  if (fiber* f = renew_task(current, payload_size, b)) [[likely]]
    return f;
  return task_new(payload_size, b, 0, "");
}

static void set_out(hub& h, fiber* task) noexcept {
  task->started = true;
  task->state = fiber_status::ready;
  h.ready.push(task);
}

[[gnu::noinline]] static bool start_slow(hub& h, fiber* task) noexcept {
  handlers_deferred quiet;
  if (!prepare(task)) return false;
  task->successor = task->left_stack ? after_thread : after_task;
  set_out(h, task);
  return true;
}

bool start(fiber* task) noexcept {
  hub& h = *hub::of(task);
  fiber* self = current;
  // A recycled task has all that it needs.
  if (!task->sp || self->runtime_depth != 0 || !h.has_room()) [[unlikely]]
    return start_slow(h, task);
  self->runtime_depth = 1;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  prepared(task);
  set_out(h, task);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  self->runtime_depth = 0;
  if (h.handlers_due()) [[unlikely]]
    run_handlers_due();
  return true;
}

bool start_at(const fiber* there, fiber* task) noexcept {
  hub& from = *hub::of(task);
  thread_storage* storage = task->storage;
  task->in_transit = true;
  from.living--;
  if (hub::of(there)->adopt(task)) return true;
  from.living++;
  task->in_transit = false;
  task->storage = storage;
  return false;
}

}  // namespace tendril::core
