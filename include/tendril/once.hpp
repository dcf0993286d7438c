// A call that is made once, however many fibers request it at the same time. (std::call_once,
// which blocks the kernel thread while the call waits, unless libtendril.so provides pthread's
// locks)
//
//   tendril::once connected;
//   connected([&] { connect(); });
//
// Any kernel thread may use it, and fibers of several kernel threads may share one.
#pragma once

#include "detail/cxx20.hpp"

#include <functional>
#include <mutex>

#include "mutex.hpp"

namespace tendril {

class once {
 public:
  // Calls f() unless a call has succeeded before; waits while another fiber's call is running. If f
  // throws, the exception leaves this call, and the next caller's function is called. Throws
  // `error` if f uses the same object. A cancellation point if it has to wait. (std::call_once)
  template <class F>
  void operator()(F&& f) {
    if (done()) return;
    std::lock_guard lock(mutex_);
    if (done()) return;
    std::invoke(std::forward<F>(f));
    done_.store(true, std::memory_order_release);
  }
  // Whether a call has succeeded.
  bool done() const noexcept { return done_.load(std::memory_order_acquire); }

 private:
  mutex mutex_;
  std::atomic<bool> done_{false};
};

}  // namespace tendril
