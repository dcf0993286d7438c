// Timers of one hub: an indexed 4-ary heap, so that cancelling (as frequent as firing) needs no search.
//
// A timer lives in the frame of whoever waits, which for most of many sleepers is not in the cache. So what the heap
// compares and moves is its own, close together: the times, and where each timer's entry stands. A timer knows its slot,
// which stays the same; it is touched when it starts, fires or is cancelled.
#pragma once

#include "array.hpp"
#include "deadline.hpp"

namespace tendril::core {

struct timer {
  deadline when{};
  void (*fire)(timer&) noexcept = nullptr;
  std::uint32_t slot = 0;  // plus one; 0: not running
};

class timer_heap {
 public:
  bool empty() const noexcept { return count_ == 0; }
  deadline next() const noexcept { return count_ ? first_ : deadline::never(); }
  // False: no memory for one more.
  bool start(timer& t) noexcept {
    if (!heap_.reserve(root + count_ + 1) || !slots_.reserve(count_ + 1)) return false;
    std::uint32_t s = free_ ? free_ - 1 : count_;
    if (free_) free_ = slots_[s].place;
    slots_[s].who = &t;
    t.slot = s + 1;
    up(root + count_++, {t.when.at, s});
    first_ = {heap_[root].at};
    return true;
  }
  void cancel(timer& t) noexcept {
    if (!t.slot) return;
    remove(t.slot - 1);
    t.slot = 0;
  }
  // Fires what is due. (Firing cancels nothing.) Several at a time, so that the frames they live in are on their way into
  // the cache together.
  void run(nanoseconds now) noexcept {
    while (count_ && first_.passed(now)) {
      timer* due[16];
      int n = 0;
      do {
        std::uint32_t s = heap_[root].slot;
        due[n] = slots_[s].who;
        __builtin_prefetch(due[n++]);
        remove(s);
      } while (n < 16 && count_ && first_.passed(now));
      for (int i = 0; i < n; i++) {
        due[i]->slot = 0;
        due[i]->fire(*due[i]);
      }
    }
  }
  void clear() noexcept { count_ = free_ = 0; }

 private:
  struct entry {
    nanoseconds at;
    std::uint32_t slot;
  };
  struct slot {
    timer* who;
    std::uint32_t place;  // of its entry; of a free slot, the next free one plus one
  };
  // With the first at this index, the four children of an entry share a line of the cache.
  static constexpr std::uint32_t root = 3;
  static std::uint32_t parent(std::uint32_t i) noexcept { return i / 4 + 2; }
  void remove(std::uint32_t s) noexcept {
    std::uint32_t i = slots_[s].place;
    slots_[s].place = free_;
    free_ = s + 1;
    entry last = heap_[root + --count_];
    if (last.slot != s) {
      if (i > root && last.at < heap_[parent(i)].at) up(i, last);
      else down(i, last);
    }
    if (count_) first_ = {heap_[root].at};
  }
  void put(std::uint32_t i, entry e) noexcept {
    heap_[i] = e;
    slots_[e.slot].place = i;
  }
  void up(std::uint32_t i, entry e) noexcept {
    for (; i > root && e.at < heap_[parent(i)].at; i = parent(i)) put(i, heap_[parent(i)]);
    put(i, e);
  }
  void down(std::uint32_t i, entry e) noexcept {
    std::uint32_t end = root + count_;
    for (;;) {
      std::uint32_t first = i * 4 - 8;
      if (first >= end) break;
      std::uint32_t least = first;
      for (std::uint32_t c = first + 1; c < first + 4 && c < end; c++) {
        if (heap_[c].at < heap_[least].at) least = c;
      }
      if (heap_[least].at >= e.at) break;
      put(i, heap_[least]);
      i = least;
    }
    put(i, e);
  }

  page_array<entry> heap_;
  page_array<slot> slots_;
  std::uint32_t count_ = 0;
  std::uint32_t free_ = 0;  // a free slot plus one; 0: only those from count_ on
  deadline first_{};
};

}  // namespace tendril::core
