// One io_uring(7): operations that the kernel carries out by itself, and how they have ended. It
// belongs to the kernel thread that made it, and carries out nothing but in that thread's calls to
// enter(): so nothing is interrupted by it, and no memory is written to behind anybody's back.
//
// It has no descriptor that the program could see or close: it is known to the kernel by a number
// of the thread's own.
#pragma once

#include <time.h>

#include <atomic>
#include <cstdint>

struct io_uring_sqe;
struct io_uring_cqe;

namespace tendril::core {

// What io_uring_enter(2) takes with IORING_ENTER_EXT_ARG. The kernel's headers have it as
// io_uring_getevents_arg, whose `pad` became `min_wait_usec` in Linux 6.12.
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
  // Makes it. Null, or why there is none, in words.
  const char* open() noexcept;
  // What is under way is not carried out any more, for that takes enter().
  void close() noexcept;
  bool is_open() const noexcept { return queue_ != nullptr; }
  // After fork: nothing of it is in the child, where its memory is not mapped.
  void abandon() noexcept {
    queue_ = nullptr;
    shared_ = nullptr;
    tail_ = ends_head_ = 0;
  }

  // Whether there is no room for one more until enter().
  bool full() const noexcept {
    return tail_ - head().load(std::memory_order_acquire) == queue_size;
  }
  // One more operation, all zero, where there is room. The mark comes back with its end.
  io_uring_sqe& add(std::uint64_t mark) noexcept;
  // Calls f(io_uring_sqe&) for those that have not been handed to the kernel yet.
  template <class F>
  void each_added(F f) noexcept {
    for (std::uint32_t i = head().load(std::memory_order_acquire); i != tail_; i++) f(entry(i));
  }
  // Hands over what was added, carries out what can be, and waits until at least so many have ended
  // (null: without a time-out; with that signal mask if it is not null). Not below zero, or -errno:
  // -ETIME, -EINTR, ...
  long enter(unsigned least, const timespec* timeout = nullptr,
             const std::uint64_t* mask = nullptr) noexcept;

  struct end {
    std::uint64_t mark;
    std::int32_t result;
    std::uint32_t flags;
  };
  // How many have ended; the i-th of them; and that the first n are done with.
  std::uint32_t ended() const noexcept {
    return ends_tail().load(std::memory_order_acquire) - ends_head_;
  }
  const end& ended(std::uint32_t i) const noexcept { return ends_[(ends_head_ + i) & ends_mask_]; }
  void done_with(std::uint32_t n) noexcept;

 private:
  // Few, so that what is handed over is still in the cache.
  static constexpr std::uint32_t queue_size = 32;
  // As many as may end before anybody looks; the kernel keeps what is more.
  static constexpr std::uint32_t ends_size = 1024;
  std::atomic_ref<std::uint32_t> head() const noexcept { return std::atomic_ref(*queue_head_); }
  std::atomic_ref<std::uint32_t> ends_tail() const noexcept {
    return std::atomic_ref(*ends_tail_at_);
  }
  io_uring_sqe& entry(std::uint32_t i) noexcept;

  int number_ = -1;  // the thread's own
  io_uring_sqe* queue_ = nullptr;
  std::uint32_t* queue_head_ = nullptr;  // the kernel's
  std::uint32_t* queue_tail_ = nullptr;  // as the kernel sees it
  std::uint32_t tail_ = 0;
  end* ends_ = nullptr;
  std::uint32_t* ends_head_at_ = nullptr;  // as the kernel sees it
  std::uint32_t* ends_tail_at_ = nullptr;  // the kernel's
  std::uint32_t ends_head_ = 0;
  std::uint32_t ends_mask_ = 0;
  void* shared_ = nullptr;
  std::size_t shared_size_ = 0;
};

}  // namespace tendril::core
