// A task that runs during a test: a call that blocked the kernel thread would stop it.
#pragma once

#include <chrono>
#include <tendril/tendril.hpp>

class ticker {
 public:
  ticker()
      : task_(tendril::spawn([this] {
          for (;;) {
            tendril::sleep(std::chrono::milliseconds(1));
            ticks_++;
          }
        })) {}
  ~ticker() { task_.kill(); }
  long ticks() const { return ticks_; }
  // Waits until it has ticked `more` times more: all fibers that could run have run by then.
  void await(long more) const {
    for (long end = ticks_ + more; ticks_ < end;) tendril::sleep(std::chrono::milliseconds(1));
  }

 private:
  long ticks_ = 0;
  tendril::task<void> task_;
};
