// The ready queue: the fibers that can run, first come first served.
//
// A ring of (fiber, saved stack pointer) rather than a linked list, because then the fiber that will run eight
// switches from now is known, and its stack can be on its way into the cache by then: the end of it, and more if the
// fiber stands deep in the runtime.
#pragma once

#include "array.hpp"
#include "fiber.hpp"

namespace tendril::core {

class ready_queue {
 public:
  // Room for n fibers; made when fibers are made, so that push cannot fail.
  bool reserve(std::size_t n) noexcept {
    if (n <= ring_.capacity()) return true;
    std::size_t old = ring_.capacity();
    if (!ring_.reserve(n)) return false;
    // What had wrapped around the old end goes behind the rest.
    std::size_t start = old ? head_ & (old - 1) : 0;
    if (start + count_ > old) {
      for (std::size_t i = 0; i < start + count_ - old; i++) ring_[old + i] = ring_[i];
    }
    head_ = start;
    return true;
  }
  std::size_t room() const noexcept { return ring_.capacity(); }
  bool empty() const noexcept { return count_ == 0; }
  std::size_t size() const noexcept { return count_; }
  void push(fiber* f, bool deep = false) noexcept {
    ring_[(head_ + count_) & mask()] = {f, reinterpret_cast<std::uintptr_t>(f->sp) | deep};
    count_++;
  }
  fiber* pop() noexcept {
    fiber* f = ring_[head_ & mask()].who;
    if (count_ > ahead) {
      const entry& later = ring_[(head_ + ahead) & mask()];
      const char* sp = reinterpret_cast<const char*>(later.sp);
      __builtin_prefetch(sp);
      __builtin_prefetch(later.who);
      if (later.sp & 1) {
        for (int line = 1; line < 8; line++) __builtin_prefetch(sp + line * 64);
        const char* who = reinterpret_cast<const char*>(later.who);
        for (int line = 1; line < 3; line++) __builtin_prefetch(who + line * 64);
      }
    }
    head_++;
    count_--;
    return f;
  }
  // One of those in the queue comes first.
  void promote(fiber* f) noexcept {
    std::size_t i = 0;
    while (i < count_ && ring_[(head_ + i) & mask()].who != f) i++;
    if (i == count_) return;
    entry e = ring_[(head_ + i) & mask()];
    for (; i > 0; i--) ring_[(head_ + i) & mask()] = ring_[(head_ + i - 1) & mask()];
    ring_[head_ & mask()] = e;
  }
  void clear() noexcept { count_ = 0; }

 private:
  static constexpr std::size_t ahead = 8;
  struct entry {
    fiber* who;
    std::uintptr_t sp;  // the lowest bit: it stands deep
  };
  std::size_t mask() const noexcept { return ring_.capacity() - 1; }

  page_array<entry> ring_;
  std::size_t head_ = 0;
  std::size_t count_ = 0;
};

}  // namespace tendril::core
