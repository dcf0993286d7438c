// The exceptions that Tendril throws.
#pragma once

#include "detail/cxx20.hpp"

#include <cstdint>
#include <stdexcept>
#include <system_error>

namespace tendril {

// Misuse that a program can meet at run time and handle. The base class of Tendril's own errors.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A switch that is not possible: to a fiber of another kernel thread, to a fiber parked in the hub,
// or with a value of another type than the target waits for. Also a parent that would close a
// cycle. (greenlet.error)
class fiber_error : public error {
 public:
  using error::error;
};

// The calling fiber's wait can never end: no fiber can run, no timer is set, and no fiber waits for
// a descriptor, a helper thread or another kernel thread. what() lists the waiting fibers and what
// each waits for. (gevent's LoopExit)
class loop_exit : public error {
 public:
  using error::error;
};

// A time-out has passed. Thrown by waits with a time-out that have a result to return, and by the
// scope `timeout` (timeout.hpp), whose id() it then carries. Its code() is std::errc::timed_out.
// (gevent.Timeout, asyncio.TimeoutError)
class timeout_error : public std::system_error {
 public:
  explicit timeout_error(const char* what = "timed out", std::uint64_t id = 0)
      : std::system_error(std::make_error_code(std::errc::timed_out)), what_(what), id_(id) {}
  const char* what() const noexcept override { return what_; }
  // The id of the `timeout` scope that threw it; 0 for a wait with a time-out argument.
  std::uint64_t id() const noexcept { return id_; }

 private:
  const char* what_;  // a string literal
  std::uint64_t id_;
};

// Unwinds a fiber. A fiber that ends by it has not failed. It is deliberately not a std::exception,
// so that handlers for errors do not catch it by mistake; catch it only to clean up, and rethrow
// it. (greenlet.GreenletExit)
class fiber_exit {
 public:
  const char* what() const noexcept { return "fiber_exit"; }
};

}  // namespace tendril
