// Stacks: carved from mapped regions, guarded, pooled, and never given back on a hot path.
//
// A region holds stacks of one class (one size, one guard size); it is mapped when a stack is asked
// for and none is free. Each new region has an eighth of the stacks that the class has, so that
// mlockall(MCL_FUTURE) and RLIMIT_AS count little more than the stacks themselves; a stack of a
// megabyte or more has a region to itself. The kernel merges neighbouring regions into one mapping.
//
// The hub returns memory to the system in two steps (trim): stacks that were not needed for a while
// lose their pages, and a region with no stack in use is unmapped.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/page_array.hpp"

namespace tendril::core {

struct stack {
  std::byte* base = nullptr;  // the lowest address: the guard, then the usable part
  std::byte* top = nullptr;   // where the first frame goes: a little below the end, see `colour`
  std::size_t size = 0;       // of the usable part, whole pages; 0: not one of ours
  std::size_t guard = 0;      // bytes, whole pages
  std::uint32_t region = 0;
  bool guarded = false;  // faults in the guard; the kernel may have refused
  bool used = false;     // has been used before, so it is not all zero

  std::byte* bottom() const noexcept { return base + guard; }
  std::byte* end() const noexcept { return base + guard + size; }
  bool guards(const void* p) const noexcept { return guarded && p >= base && p < base + guard; }
};

constexpr std::size_t page = 4096;
// 0 if n is too large.
constexpr std::size_t whole_pages(std::size_t n) noexcept { return (n + page - 1) & ~(page - 1); }

// A pool of stacks. Each hub has one for its fibers, which its kernel thread alone uses; the
// program's threads have one together, under a lock (thread_stacks.hpp).
class stack_pool {
 public:
  static constexpr std::size_t smallest = 16 * 1024;
  static constexpr std::size_t largest = std::size_t(1) << 30;
  // Below a fiber's stack, and so wide that a frame with a large array ends in it and not in
  // another fiber's stack. An odd number of pages: with stacks an even number of pages apart, tens
  // of thousands of fibers share a fraction of the TLB's sets (a task in a batch takes 10% longer
  // at 64 KB).
  static constexpr std::size_t fiber_guard = 60 * 1024;
  // The size for a fiber that asks for none: TENDRIL_STACK_SIZE, or 64 KB.
  static std::size_t default_size() noexcept;

  stack_pool() noexcept = default;
  stack_pool(const stack_pool&) = delete;
  ~stack_pool();
  // A fiber's stack of at least `size` bytes (0: the default). Size 0 in the result: no memory.
  stack take(std::size_t size) noexcept;
  // A thread's stack, with a guard of the given size. The kernel accounts for all of its memory, as
  // for its own threads' stacks; for a fiber's stack it accounts only for the pages that are
  // touched.
  stack take_for_thread(std::size_t size, std::size_t guard) noexcept;
  void give_back(const stack& s) noexcept;

  // Returns the memory of some stacks that were not needed since the last round to the system, and
  // unmaps regions with no stack in use. A round takes several calls, so that none takes long.
  enum class trimmed { partly, wholly, nothing_left };
  trimmed trim() noexcept;
  // Whether stacks have been given back since the last round.
  bool left_memory() const noexcept { return left_memory_; }
  // Unmaps at once the regions with no stack in use: those of large stacks, or all.
  void unmap_free(bool small_ones) noexcept;
  // All stacks, now and later, may hold code: see stacks_hold_code() in fiber/stack_protection.hpp.
  void allow_code() noexcept;
  bool allows_code() const noexcept { return allows_code_; }
  bool holds(const void* p) const noexcept;

 private:
  struct stack_class {
    std::size_t size, guard;
    bool counted;            // see take_for_thread()
    page_array<stack> free;  // [0, trimmed) hold no memory, [trimmed, count) may
    std::size_t count;
    std::size_t trimmed;
    std::size_t low_water;  // the smallest count since the last round of trim()
    std::size_t made;       // how many there are
    std::uint32_t open;     // the region that new stacks are carved from
    std::byte* next;        // its part that is not carved yet
    std::byte* end;
    std::size_t slot() const noexcept { return size + guard; }
  };
  struct region {
    std::byte* start;  // null: this number is free
    std::size_t size;
    std::size_t slot, guard;
    std::uint32_t of;      // class
    std::uint32_t carved;  // how many stacks
    std::uint32_t idle;    // how many of them are in the free list, for unmap_idle()
  };
  stack take(std::size_t size, std::size_t guard, bool counted) noexcept;
  stack_class* class_of(std::size_t size, std::size_t guard, bool counted) noexcept;
  bool add_region(stack_class& c) noexcept;
  void unmap_idle(stack_class& c, std::size_t among) noexcept;
  bool unmap(std::uint32_t number) noexcept;
  static bool guard(std::byte* at, std::size_t size) noexcept;

  page_array<stack_class> classes_;
  std::size_t class_count_ = 0;
  std::size_t last_class_ = 0;  // the one that was asked for last
  std::size_t trims_ = 0;       // the class that trim() has reached in this round
  page_array<region> regions_;
  std::size_t region_count_ = 0;
  std::uint32_t carved_ = 0;
  bool allows_code_ = false;
  bool left_memory_ = false;
};

}  // namespace tendril::core
