// Being told of every switch of fibers on a kernel thread, in the manner of greenlet's settrace.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "fiber.hpp"

namespace tendril {

// What a trace callback is told: that control went from one fiber to another, by a switch or by a throw.
enum class trace_event { switched, thrown };
using trace_callback = std::function<void(trace_event, const any_fiber& from, const any_fiber& to)>;

namespace detail {

// One callback of one kernel thread.
inline std::unique_ptr<trace_callback>& trace_slot() noexcept {
  static thread_local std::unique_ptr<trace_callback> slot;
  return slot;
}

inline bool call_tracer(void* context, core::fiber* from, core::fiber* to, bool thrown) noexcept {
  try {
    trace_callback callback = *static_cast<trace_callback*>(context);  // a copy: it may replace itself
    callback(thrown ? trace_event::thrown : trace_event::switched, any_fiber::adopt_ref(from),
             any_fiber::adopt_ref(to));
    return true;
  } catch (...) {
    trace_failure() = std::current_exception();
    return false;
  }
}

}  // namespace detail

// Has `callback` called after each switch of fibers on this kernel thread, the hub's too, on the fiber that was
// switched to; an empty callback ends tracing. Returns the previous callback. If the callback throws, tracing
// ends, and the exception comes out of the next explicit switch that returns. (greenlet: settrace)
inline trace_callback set_trace(trace_callback callback) {
  auto& slot = detail::trace_slot();
  trace_callback old;
  if (slot && core::tracer_context() == slot.get()) old = std::move(*slot);
  detail::trace_failure() = nullptr;
  core::set_tracer(nullptr, nullptr);
  slot.reset();
  if (callback) {
    slot = std::make_unique<trace_callback>(std::move(callback));
    core::set_tracer(detail::call_tracer, slot.get());
  }
  return old;
}

}  // namespace tendril
