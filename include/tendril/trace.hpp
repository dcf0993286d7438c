// A callback for every switch of fibers on a kernel thread, in the manner of greenlet's settrace.
#pragma once

#include "detail/cxx20.hpp"

#include <functional>
#include <memory>
#include <utility>

#include "fiber.hpp"

namespace tendril {

// How control went from one fiber to another: by a switch, or by a throw.
enum class trace_event { switched, thrown };
using trace_callback = std::function<void(trace_event, const any_fiber& from, const any_fiber& to)>;

namespace detail {

inline void* call_tracer(void* context, core::fiber* from, core::fiber* to, bool thrown) noexcept {
  try {
    // Call a copy: the callback may replace itself.
    trace_callback callback = *static_cast<trace_callback*>(context);
    callback(thrown ? trace_event::thrown : trace_event::switched, any_fiber::adopt_ref(from),
             any_fiber::adopt_ref(to));
    return nullptr;
  } catch (...) {
    return new std::exception_ptr(std::current_exception());
  }
}

}  // namespace detail

// Makes the runtime call `callback` after each switch of fibers on this kernel thread, including
// the hub's, on the fiber that was switched to. An empty callback ends tracing. Returns the
// previous callback. Switches that the callback itself makes are not traced. If it throws, tracing
// ends, and the next explicit switch that returns throws the exception in place of its own result.
// Any kernel thread may call it, for itself. (greenlet: settrace)
inline trace_callback set_trace(trace_callback callback) {
  trace_callback old;
  if (auto* before = static_cast<trace_callback*>(core::tracer_context())) old = *before;
  if (!callback) {
    core::set_tracer(nullptr, nullptr, nullptr);
    return old;
  }
  auto context = std::make_unique<trace_callback>(std::move(callback));
  core::set_tracer(detail::call_tracer, context.release(),
                   [](void* c) noexcept { delete static_cast<trace_callback*>(c); });
  return old;
}

}  // namespace tendril
