// Timers of one hub: an indexed 4-ary heap, so that cancelling (as frequent as firing) needs no search.
// A timer lives in the frame of whoever waits; the heap only points to it.
#pragma once

#include "array.hpp"
#include "deadline.hpp"

namespace tendril::core {

struct timer {
  deadline when{};
  void (*fire)(timer&) noexcept = nullptr;
  std::size_t place = 0;  // index in the heap plus one; 0: not running
};

class timer_heap {
 public:
  bool empty() const noexcept { return count_ == 0; }
  deadline next() const noexcept { return count_ ? first_ : deadline::never(); }
  // False: no memory for one more.
  bool start(timer& t) noexcept {
    if (!heap_.reserve(count_ + 1)) return false;
    up(count_++, &t);
    first_ = heap_[0]->when;
    return true;
  }
  void cancel(timer& t) noexcept {
    if (!t.place) return;
    std::size_t i = t.place - 1;
    t.place = 0;
    timer* last = heap_[--count_];
    if (last != &t) {
      if (i > 0 && before(last, heap_[(i - 1) / 4])) up(i, last);
      else down(i, last);
    }
    if (count_) first_ = heap_[0]->when;
  }
  // Fires what is due.
  void run(nanoseconds now) noexcept {
    while (count_ && heap_[0]->when.passed(now)) {
      timer* t = heap_[0];
      cancel(*t);
      t->fire(*t);
    }
  }
  void clear() noexcept { count_ = 0; }

 private:
  static bool before(const timer* a, const timer* b) noexcept { return a->when.at < b->when.at; }
  void put(std::size_t i, timer* t) noexcept {
    heap_[i] = t;
    t->place = i + 1;
  }
  void up(std::size_t i, timer* t) noexcept {
    while (i > 0) {
      std::size_t parent = (i - 1) / 4;
      if (!before(t, heap_[parent])) break;
      put(i, heap_[parent]);
      i = parent;
    }
    put(i, t);
  }
  void down(std::size_t i, timer* t) noexcept {
    for (;;) {
      std::size_t first = i * 4 + 1;
      if (first >= count_) break;
      std::size_t least = first;
      for (std::size_t c = first + 1; c < first + 4 && c < count_; c++) {
        if (before(heap_[c], heap_[least])) least = c;
      }
      if (!before(heap_[least], t)) break;
      put(i, heap_[least]);
      i = least;
    }
    put(i, t);
  }

  page_array<timer*> heap_;
  std::size_t count_ = 0;
  deadline first_{};
};

}  // namespace tendril::core
