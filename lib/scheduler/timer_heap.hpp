// The exact timers of one hub: an indexed 4-ary heap, so that cancelling (as frequent as firing)
// needs no search.
//
// A fiber that waits is usually in no cache. So the heap compares and moves only data of its own,
// stored close together: the times, and the place of each fiber's entry. The fiber knows its slot,
// which does not change.
#pragma once

#include "base/deadline.hpp"
#include "base/page_array.hpp"
#include "fiber/fiber.hpp"

namespace tendril::core {

class timer_heap {
 public:
  bool empty() const noexcept { return count_ == 0; }
  nanoseconds next() const noexcept { return count_ ? first_ : INT64_MAX; }
  // The fiber with the first deadline. Requires that there is one.
  fiber* first() noexcept { return slots_[heap_[root].slot].who; }
  // Returns the number of the fiber's slot; 0: no memory for another one.
  std::uint32_t start(fiber* who, nanoseconds at) noexcept {
    if (!heap_.reserve(root + count_ + 1) || !slots_.reserve(count_ + 1)) return 0;
    std::uint32_t s = free_ ? free_ - 1 : count_;
    if (free_) free_ = slots_[s].place;
    slots_[s].who = who;
    up(root + count_++, {at, s});
    first_ = heap_[root].at;
    return s + 1;
  }
  void cancel(std::uint32_t number) noexcept { remove(number - 1); }
  void pop() noexcept { remove(heap_[root].slot); }
  void clear() noexcept { count_ = free_ = 0; }

 private:
  struct entry {
    nanoseconds at;
    std::uint32_t slot;
  };
  struct slot {
    fiber* who;
    std::uint32_t place;  // of its entry; in a free slot: the next free one plus one
  };
  // With the root at this index, the four children of an entry share a cache line.
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
    if (count_) first_ = heap_[root].at;
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
  std::uint32_t free_ = 0;  // a free slot plus one; 0: only those from count_ on are free
  nanoseconds first_ = 0;
};

}  // namespace tendril::core
