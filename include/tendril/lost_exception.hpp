// Exceptions that nobody asks for: of a task whose last handle goes although nobody has called
// get(), exception() or successful(), or had a link_exception(); of a future likewise; and those
// that a task_group drops, since another one came first. (asyncio: "Task exception was never
// retrieved", loop.set_exception_handler; gevent: Hub.handle_error)
//
// By default a line on standard error reports each:
//
//   tendril: task 7 'reader' ended by std::runtime_error: the tank is empty (nobody asked for it)
#pragma once

#include "detail/cxx20.hpp"

#include <cxxabi.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <typeinfo>
#include <utility>

namespace tendril {

// Valid during the call of the handler only.
struct lost_exception {
  const char* source;  // "task" or "call" (of an executor)
  std::uint64_t id;    // the task's; 0: of a call
  const char* name;    // the task's; "" if it has none
  std::exception_ptr error;
};

// Is called on the kernel thread and fiber that drops the last handle, often amid a destructor: it
// must not throw and not wait.
using lost_exception_handler = void (*)(const lost_exception&) noexcept;

// Writes the line above. The default handler.
inline void report_lost_exception(const lost_exception& e) noexcept {
  const char* what = "";
  const std::type_info* type = nullptr;
  std::exception_ptr held;  // what() belongs to it
  try {
    std::rethrow_exception(e.error);
  } catch (const std::exception& thrown) {
    held = std::current_exception();
    what = thrown.what();
    type = &typeid(thrown);
  } catch (...) {
    type = abi::__cxa_current_exception_type();
  }
  char* readable = type ? abi::__cxa_demangle(type->name(), nullptr, nullptr, nullptr) : nullptr;
  const char* type_name = readable ? readable : type ? type->name() : "an unknown exception";
  const char* colon = *what ? ": " : "";
  if (e.id == 0) {
    std::fprintf(stderr, "tendril: a %s ended by %s%s%s (nobody asked for it)\n", e.source,
                 type_name, colon, what);
  } else {
    std::fprintf(stderr, "tendril: %s %llu '%s' ended by %s%s%s (nobody asked for it)\n", e.source,
                 static_cast<unsigned long long>(e.id), e.name, type_name, colon, what);
  }
  std::free(readable);
}

namespace detail {

inline std::atomic<lost_exception_handler> lost_handler{report_lost_exception};

inline void lose(const char* source, std::uint64_t id, const char* name,
                 std::exception_ptr error) noexcept {
  lost_handler.load(std::memory_order_acquire)({source, id, name, std::move(error)});
}

}  // namespace detail

// Makes `h` the process's handler; null: nothing is done. Returns the one before. Any kernel thread
// may call it.
inline lost_exception_handler set_lost_exception_handler(lost_exception_handler h) noexcept {
  return detail::lost_handler.exchange(
      h ? h : [](const lost_exception&) noexcept {}, std::memory_order_acq_rel);
}

}  // namespace tendril
