// Stacks: carved from large reserved regions, guarded, pooled, and never given back on a hot path.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/page_array.hpp"

namespace tendril::core {

struct stack {
  std::byte* base = nullptr;  // the lowest address: one guard page, then the usable part
  std::byte* top = nullptr;   // where the first frame goes: a little below the end, see `colour`
  std::uint32_t size = 0;     // from base to the end, a power of two; 0: not one of ours
  bool guarded = false;
  bool used = false;          // was somebody's before: not all zero

  std::byte* bottom() const noexcept { return base + guard_size; }
  bool guards(const void* p) const noexcept {
    return guarded && p >= base && p < base + guard_size;
  }
  static constexpr std::size_t guard_size = 4096;
};

// The stacks of one kernel thread's fibers. Only that thread uses it.
class stack_pool {
 public:
  static constexpr std::size_t smallest = 16 * 1024;
  static constexpr std::size_t largest = std::size_t(1) << 30;
  // What a fiber gets that asks for nothing: TENDRIL_STACK_SIZE, or 64 KB.
  static std::size_t default_size() noexcept;

  ~stack_pool();
  // A stack of at least `size` bytes (0: the default), guard included; size 0 in the result: no memory.
  stack take(std::size_t size) noexcept;
  void give_back(const stack& s) noexcept;
  // Gives the memory of stacks that nobody needed since the last call back to the system. Returns whether
  // there are free stacks left that a later call would trim.
  bool trim() noexcept;

 private:
  struct size_class {
    page_array<stack> free;       // [0, trimmed) hold no memory, [trimmed, count) may
    std::size_t count = 0;
    std::size_t trimmed = 0;
    std::size_t low_water = 0;    // the smallest count since the last trim()
    std::byte* next = nullptr;    // not yet carved part of the newest region
    std::byte* end = nullptr;
  };
  struct region {
    void* start;
    std::size_t size;
  };
  bool add_region(size_class& c, std::size_t stack_size) noexcept;
  static bool guard(std::byte* page) noexcept;

  size_class classes_[17];
  page_array<region> regions_;
  std::size_t region_count_ = 0;
  std::uint32_t carved_ = 0;
};

}  // namespace tendril::core
