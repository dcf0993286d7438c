// A pool: a group with an upper limit on its tasks. Only one kernel thread may use it.
// (gevent.pool.Pool; multiprocessing.pool.ThreadPool)
//
//   tendril::pool ten(10);
//   auto pages = ten.map(fetch, urls);   // never more than ten fetch at the same time
#pragma once

#include "detail/cxx20.hpp"

#include "group.hpp"

namespace tendril {

class pool : public group {
 public:
  // A pool of at most `size` tasks; throws `error` for 0.
  explicit pool(std::size_t size) : size_(size) {
    if (size == 0) throw error("a pool needs room for at least one task");
    state_->places = std::make_shared<semaphore>(std::ptrdiff_t(size));
  }

  // The maximum number of tasks.
  std::size_t limit() const noexcept { return size_; }
  // The number of spawn() calls that would not wait now.
  std::size_t free_count() const noexcept { return std::size_t(state_->places->value()); }
  // Whether spawn() would wait.
  bool full() const noexcept override { return free_count() == 0; }
  // Waits until there is a free place, without taking it. A cancellation point. (gevent:
  // wait_available)
  void wait_available() { state_->places->wait(); }
  // The same, for at most `timeout`. Returns whether there is a free place.
  template <class Rep, class Period>
  bool wait_available(std::chrono::duration<Rep, Period> timeout) {
    return state_->places->wait(timeout);
  }

 private:
  std::size_t size_;
};

}  // namespace tendril
