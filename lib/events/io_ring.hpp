// One io_uring(7): operations that the kernel carries out, and their completions. It belongs to the
// kernel thread that made it. The kernel carries out operations only in that thread's calls to
// enter(), so they interrupt nothing, and memory is written to only then.
//
// It has no descriptor that the program could see or close: the kernel knows it by a number in the
// thread's own table of registered rings.
#pragma once

#include <time.h>

#include <atomic>
#include <cstdint>

struct io_uring_sqe;
struct io_uring_cqe;

namespace tendril::core {

// The argument of io_uring_enter(2) with IORING_ENTER_EXT_ARG: io_uring_getevents_arg of the
// kernel's headers, whose `pad` became `min_wait_usec` in Linux 6.12.
struct wait_argument {
  std::uint64_t mask;
  std::uint32_t mask_size;
  std::uint32_t least_wait_us;  // Linux before 6.12 refuses any but 0
  std::uint64_t time;
};

class ring {
 public:
  ring() = default;
  ~ring() { close(); }
  ring(const ring&) = delete;
  // Makes it. Returns null, or the reason why there is none, in words.
  const char* open() noexcept;
  // Operations under way are not carried out any more, since that requires enter().
  void close() noexcept;
  bool is_open() const noexcept { return queue_ != nullptr; }
  // After fork: the ring does not exist in the child, where its memory is not mapped.
  void abandon() noexcept {
    queue_ = nullptr;
    shared_ = nullptr;
    tail_ = ends_head_ = 0;
  }

  // Whether there is no room for another operation before enter().
  bool full() const noexcept {
    return tail_ - head().load(std::memory_order_acquire) == queue_size;
  }
  // Adds an operation, all zero. Requires that there is room. Its completion has the same mark.
  io_uring_sqe& add(std::uint64_t mark) noexcept;
  // Calls f(io_uring_sqe&) for the operations that have not been submitted yet.
  template <class F>
  void each_added(F f) noexcept {
    for (std::uint32_t i = head().load(std::memory_order_acquire); i != tail_; i++) f(entry(i));
  }
  // Submits what was added, carries out what is possible, and waits until at least `least`
  // operations have completed (timeout null: without one; mask null: the signal mask stays as it
  // is). Returns a number that is not negative, or -errno: -ETIME, -EINTR, ...
  long enter(unsigned least, const timespec* timeout = nullptr,
             const std::uint64_t* mask = nullptr) noexcept;

  struct end {
    std::uint64_t mark;
    std::int32_t result;
    std::uint32_t flags;
  };
  // The number of completions; the i-th of them; and releases the first n.
  std::uint32_t ended() const noexcept {
    return ends_tail().load(std::memory_order_acquire) - ends_head_;
  }
  const end& ended(std::uint32_t i) const noexcept { return ends_[(ends_head_ + i) & ends_mask_]; }
  void done_with(std::uint32_t n) noexcept;

 private:
  // Small, so that the entries are still in the cache when they are submitted.
  static constexpr std::uint32_t queue_size = 32;
  // The number of completions between two calls of enter() that fit; the kernel keeps the others.
  static constexpr std::uint32_t ends_size = 1024;
  std::atomic_ref<std::uint32_t> head() const noexcept { return std::atomic_ref(*queue_head_); }
  std::atomic_ref<std::uint32_t> ends_tail() const noexcept {
    return std::atomic_ref(*ends_tail_at_);
  }
  io_uring_sqe& entry(std::uint32_t i) noexcept;

  int number_ = -1;  // in the thread's table of registered rings
  io_uring_sqe* queue_ = nullptr;
  std::uint32_t* queue_head_ = nullptr;  // written by the kernel
  std::uint32_t* queue_tail_ = nullptr;  // read by the kernel
  std::uint32_t tail_ = 0;
  end* ends_ = nullptr;
  std::uint32_t* ends_head_at_ = nullptr;  // read by the kernel
  std::uint32_t* ends_tail_at_ = nullptr;  // written by the kernel
  std::uint32_t ends_head_ = 0;
  std::uint32_t ends_mask_ = 0;
  void* shared_ = nullptr;
  std::size_t shared_size_ = 0;
};

}  // namespace tendril::core
