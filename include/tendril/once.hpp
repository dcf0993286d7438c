// Something that is done once, however many fibers ask for it at the same time. As std::call_once,
// which would block the kernel thread if the call waited.
//
//   tendril::once connected;
//   connected([&] { connect(); });
//
// Fibers of several kernel threads may share one.
#pragma once

#include <functional>
#include <mutex>

#include "mutex.hpp"

namespace tendril {

class once {
 public:
  // Calls f(), unless a call has succeeded before; waits while another fiber's call runs. If it
  // throws, the next who asks calls its own. error if f asks again for the same.
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
