// The run queue: the fibers that can run, first in, first out.
//
// It is a ring of (fiber, saved stack pointer) and not a linked list, so that the fiber that will
// run eight switches from now is known, and its stack can be prefetched: the end of it, and more if
// it is deep in the runtime.
#pragma once

#include "base/page_array.hpp"
#include "fiber/fiber.hpp"

namespace tendril::core {

class run_queue {
 public:
  // Makes room for n fibers; called when fibers are made, so that push() cannot fail.
  bool reserve(std::size_t n) noexcept {
    if (n <= room()) return true;
    std::size_t first = std::size_t(first_ - begin()), last = std::size_t(last_ - begin());
    std::size_t old = ring_.capacity() ? std::size_t(end_ - begin()) : 0;
    if (!ring_.reserve(n + 1 + ahead)) return false;
    // Entries that had wrapped around the old end go behind the others.
    if (last < first) {
      for (std::size_t i = 0; i < last; i++) ring_[old + i] = ring_[i];
      last += old;
    }
    first_ = begin() + first;
    last_ = begin() + last;
    end_ = begin() + ring_.capacity() - ahead;
    return true;
  }
  // One place stays free: a full ring would look like an empty one.
  std::size_t room() const noexcept {
    return ring_.capacity() ? std::size_t(end_ - begin()) - 1 : 0;
  }
  bool empty() const noexcept { return bytes() == 0; }
  void push(fiber* f, bool deep = false) noexcept {
    *last_ = {f, reinterpret_cast<std::uintptr_t>(f->sp) | deep};
    if (deep && bytes() < ahead * sizeof(entry)) fetch(*last_);  // no pop() will fetch it in time
    last_ = after(last_);
  }
  fiber* pop() noexcept {
    fiber* f = first_->who;
    // If the ring has wrapped around, this may be beyond the last entry, and name a fiber that ran
    // before, or none. Prefetching it does no harm.
    if (bytes() > ahead * sizeof(entry)) fetch(first_[ahead]);
    first_ = after(first_);
    return f;
  }
  // Moves a fiber that is in the queue to its front.
  void promote(fiber* f) noexcept {
    entry* at = first_;
    while (at != last_ && at->who != f) at = after(at);
    if (at == last_) return;
    for (entry moved = *first_, *to = first_; to != at;) {
      to = after(to);
      entry next = *to;
      *to = moved;
      moved = next;
      if (to == at) *first_ = next;
    }
  }
  std::size_t size() const noexcept {
    std::size_t whole = std::size_t(end_ - begin());
    return (std::size_t(last_ - first_) + whole) % whole;
  }
  // Calls take(fiber) for each fiber in the queue, from the newest to the oldest, and removes those
  // for which it returns true.
  template <class F>
  void take_newest(F take) noexcept {
    entry* keep = last_;
    for (entry* at = last_; at != first_;) {
      at = before(at);
      if (take(at->who)) continue;
      keep = before(keep);
      *keep = *at;
    }
    first_ = keep;
  }
  void clear() noexcept { first_ = last_; }

 private:
  static constexpr std::size_t ahead = 8;
  struct entry {
    fiber* who;
    std::uintptr_t sp;  // the lowest bit: the fiber is deep in the runtime
  };
  // From the first entry to the last; a huge number if the ring has wrapped around.
  std::size_t bytes() const noexcept {
    return reinterpret_cast<std::uintptr_t>(last_) - reinterpret_cast<std::uintptr_t>(first_);
  }
  [[gnu::always_inline]] static void fetch(const entry& later) noexcept {
    const char* sp = reinterpret_cast<const char*>(later.sp);
    const char* who = reinterpret_cast<const char*>(later.who);
    __builtin_prefetch(sp);
    __builtin_prefetch(who);
    __builtin_prefetch(who + payload_offset);  // what the task's function has captured
    if (later.sp & 1) [[unlikely]] {
      for (int line = 1; line < 12; line++) __builtin_prefetch(sp + line * 64);
    }
  }
  entry* begin() const noexcept { return const_cast<page_array<entry>&>(ring_).data(); }
  entry* after(entry* e) const noexcept { return e + 1 == end_ ? begin() : e + 1; }
  entry* before(entry* e) const noexcept { return (e == begin() ? end_ : e) - 1; }

  entry* first_ = nullptr;
  entry* last_ = nullptr;
  // some unused places follow, so that pop() can always look ahead of the first
  entry* end_ = nullptr;
  page_array<entry> ring_;
};

}  // namespace tendril::core
