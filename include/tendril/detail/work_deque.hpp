// The calls that a kernel thread has been given and has not begun: its owner pushes and pops the
// newest, and any kernel thread may take the oldest. (Chase and Lev: Dynamic circular work-stealing
// deque, SPAA 2005; the memory orders are those of Le and others, PPoPP 2013, with sequentially
// consistent operations in place of the fences.) Not for programs.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace tendril::detail {

template <class T>
class work_deque {
 public:
  work_deque() = default;
  work_deque(const work_deque&) = delete;

  // How many there are; another kernel thread may change it at any time. The load is sequentially
  // consistent, and so is the end of push(): who announces that it sleeps and then finds nothing
  // here is seen by whoever pushes after that.
  std::size_t size() const noexcept {
    std::int64_t first = oldest_.load(std::memory_order_seq_cst);
    std::int64_t end = end_.load(std::memory_order_seq_cst);
    return end > first ? std::size_t(end - first) : 0;
  }
  bool empty() const noexcept { return size() == 0; }

  // The owner's. Throws std::bad_alloc, and then has added nothing.
  void push(T* x) {
    std::int64_t end = end_.load(std::memory_order_relaxed);
    std::int64_t first = oldest_.load(std::memory_order_acquire);
    ring* r = ring_.load(std::memory_order_relaxed);
    if (end - first >= r->size) r = grow(*r, first, end);
    r->at(end).store(x, std::memory_order_relaxed);
    end_.store(end + 1, std::memory_order_seq_cst);
  }
  // The owner's: takes the newest; null: there is none.
  T* pop() noexcept {
    std::int64_t end = end_.load(std::memory_order_relaxed) - 1;
    if (oldest_.load(std::memory_order_relaxed) > end) return nullptr;  // nobody else adds any
    end_.store(end, std::memory_order_seq_cst);
    std::int64_t first = oldest_.load(std::memory_order_seq_cst);
    if (first > end) {
      end_.store(end + 1, std::memory_order_relaxed);
      return nullptr;
    }
    T* x = ring_.load(std::memory_order_relaxed)->at(end).load(std::memory_order_relaxed);
    if (first < end) return x;
    // The last one: others may be taking it as the oldest.
    if (!oldest_.compare_exchange_strong(first, first + 1, std::memory_order_seq_cst)) x = nullptr;
    end_.store(end + 1, std::memory_order_relaxed);
    return x;
  }
  // Any kernel thread's: takes the oldest; null: there is none.
  T* take_oldest() noexcept {
    std::int64_t first = oldest_.load(std::memory_order_seq_cst);
    while (first < end_.load(std::memory_order_seq_cst)) {
      T* x = ring_.load(std::memory_order_acquire)->at(first).load(std::memory_order_relaxed);
      if (oldest_.compare_exchange_strong(first, first + 1, std::memory_order_seq_cst)) return x;
    }
    return nullptr;
  }

 private:
  struct ring {
    explicit ring(std::int64_t n) : size(n), slots(new std::atomic<T*>[std::size_t(n)]) {}
    std::atomic<T*>& at(std::int64_t i) const noexcept {
      return slots[std::size_t(i & (size - 1))];
    }
    const std::int64_t size;  // a power of two
    std::unique_ptr<std::atomic<T*>[]> slots;
  };
  ring* add_ring(std::int64_t n) {
    rings_.push_back(std::make_unique<ring>(n));
    return rings_.back().get();
  }
  ring* grow(const ring& old, std::int64_t first, std::int64_t end) {
    ring* r = add_ring(2 * old.size);
    for (std::int64_t i = first; i < end; i++)
      r->at(i).store(old.at(i).load(std::memory_order_relaxed), std::memory_order_relaxed);
    ring_.store(r, std::memory_order_release);
    return r;
  }

  alignas(64) std::atomic<std::int64_t> oldest_{0};
  alignas(64) std::atomic<std::int64_t> end_{0};
  // The earlier rings stay: another kernel thread may be reading one. Together they are as large as
  // the last one.
  std::vector<std::unique_ptr<ring>> rings_;
  std::atomic<ring*> ring_{add_ring(64)};
};

}  // namespace tendril::detail
