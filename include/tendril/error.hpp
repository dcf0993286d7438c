// The exceptions that Tendril throws.
#pragma once

#include <stdexcept>

namespace tendril {

// Misuse that a program can meet at run time and handle; the base of all errors of Tendril's own.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A switch that cannot be made: across kernel threads, to a fiber parked in the hub, with a value of another
// family, or a parent that would close a cycle. (greenlet.error)
class fiber_error : public error {
 public:
  using error::error;
};

// A fiber waits for something that can never happen, since no fiber can run, no timer is set, and no
// descriptor, helper or other kernel thread is waited for. what() lists who waits for what. (gevent's LoopExit)
class loop_exit : public error {
 public:
  using error::error;
};

// Unwinds a fiber; leaving the fiber by it is no error. Deliberately not a std::exception, so that a handler
// for errors does not swallow it by mistake; catch it only to clean up, and rethrow. (greenlet.GreenletExit)
class fiber_exit {
 public:
  const char* what() const noexcept { return "fiber_exit"; }
};

}  // namespace tendril
