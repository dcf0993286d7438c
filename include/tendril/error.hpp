// The exceptions that Tendril throws.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <system_error>

namespace tendril {

// Misuse that a program can meet at run time and handle; the base of all errors of Tendril's own.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A switch that cannot be made: across kernel threads, to a fiber parked in the hub, with a value
// of another family, or a parent that would close a cycle. (greenlet.error)
class fiber_error : public error {
 public:
  using error::error;
};

// A fiber waits for something that can never happen, since no fiber can run, no timer is set, and
// no descriptor, helper or other kernel thread is waited for. what() lists who waits for what.
// (gevent's LoopExit)
class loop_exit : public error {
 public:
  using error::error;
};

// Something was waited for too long: thrown by waits with a time-out that have a result to return,
// and by the scope `timeout`, whose id it then bears. Its code() is std::errc::timed_out.
// (gevent.Timeout, asyncio.TimeoutError)
class timeout_error : public std::system_error {
 public:
  explicit timeout_error(const char* what = "timed out", std::uint64_t id = 0)
      : std::system_error(std::make_error_code(std::errc::timed_out)), what_(what), id_(id) {}
  const char* what() const noexcept override { return what_; }
  // The timeout that threw it (timeout.hpp); 0: a wait with a time-out of its own.
  std::uint64_t id() const noexcept { return id_; }

 private:
  const char* what_;  // a literal
  std::uint64_t id_;
};

// Unwinds a fiber; leaving the fiber by it is no error. Deliberately not a std::exception, so that
// a handler for errors does not swallow it by mistake; catch it only to clean up, and rethrow.
// (greenlet.GreenletExit)
class fiber_exit {
 public:
  const char* what() const noexcept { return "fiber_exit"; }
};

}  // namespace tendril
