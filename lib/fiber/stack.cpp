#include "fiber/stack.hpp"

#include <errno.h>
#include <stdlib.h>

#include "base/sanitize.hpp"

namespace tendril::core {

namespace {

constexpr int madv_guard_install = 102;  // Linux 6.13
constexpr std::size_t region_bytes = std::size_t(512) << 20;

int class_of(std::size_t size) noexcept {
  int c = 0;
  while ((stack_pool::smallest << c) < size) c++;
  return c;
}

// What one page of a page table maps. A stack's first pages lie right below the next one's guard page, which takes an
// entry there as well. Where stacks are so large that each needs a page of the table for itself, their borders are kept
// away from the borders between those pages, so that both are in the same one.
constexpr std::size_t table_span = 2 << 20;

// Page-aligned tops would put every fiber's hottest frames into the same cache sets. Spread over half a page, a batch of
// 1,000 tasks stays in a cache of 2 MB (36 ns a task; over a quarter: 49), and a fiber that waits (in up to 1.8 KB) still
// in one page.
std::size_t colour(std::uint32_t n) noexcept { return (n % 32) * 64; }

}  // namespace

std::size_t stack_pool::default_size() noexcept {
  static constinit std::atomic<std::size_t> size{0};  // 0: not read yet; by several threads at once is all the same
  if (std::size_t known = size.load(std::memory_order_relaxed)) return known;
  auto read = [] {
    const char* s = getenv("TENDRIL_STACK_SIZE");
    if (!s || !*s) return std::size_t(64 * 1024);
    char* end;
    unsigned long v = strtoul(s, &end, 10);
    if (*end == 'k' || *end == 'K') v <<= 10, end++;
    else if (*end == 'm' || *end == 'M') v <<= 20, end++;
    if (*end || v < smallest || v > largest) {
      sys::say("TENDRIL_STACK_SIZE=", s, " is not a size from 16k to 1024m; using 64k");
      return std::size_t(64 * 1024);
    }
    return std::size_t(v);
  };
  std::size_t known = read();
  size.store(known, std::memory_order_relaxed);
  return known;
}

bool stack_pool::guard(std::byte* page) noexcept {
  static std::atomic<int> way{0};  // 0: by MADV_GUARD_INSTALL, 1: by mprotect, 2: none
  if (way.load(std::memory_order_relaxed) == 0) {
    if (sys::advise(page, stack::guard_size, madv_guard_install) == 0) return true;
    way = 1;
  }
  if (way.load(std::memory_order_relaxed) == 1) {
    if (sys::protect(page, stack::guard_size, 0 /* PROT_NONE */) == 0) return true;
    way = 2;
    sys::say("no more guard pages (see vm.max_map_count): further fiber stacks are not guarded");
  }
  return false;
}

bool stack_pool::add_region(size_class& c, std::size_t stack_size) noexcept {
  if (!regions_.reserve(region_count_ + 1)) return false;
  // Where address space is short (ulimit -v, vm.overcommit_memory=2), smaller regions still work.
  for (std::size_t size = region_bytes > stack_size ? region_bytes : stack_size;; size /= 4) {
    if (size < stack_size) size = stack_size;
    std::size_t slack = stack_size >= table_span ? table_span : 0;
    if (void* p = sys::map(size + slack, MAP_NORESERVE | MAP_STACK)) {
      sys::advise(p, size + slack, MADV_NOHUGEPAGE);  // a touched page must not bring 2 MB
      regions_[region_count_++] = {p, size + slack};
      c.next = static_cast<std::byte*>(p);
      if (slack) c.next += (table_span / 2 - reinterpret_cast<std::uintptr_t>(p)) % table_span;
      c.end = c.next + size / stack_size * stack_size;
      return true;
    }
    if (size == stack_size) return false;
  }
}

stack stack_pool::take(std::size_t size) noexcept {
  if (size == 0) size = default_size();
  if (size > largest) return {};
  int k = class_of(size);
  size_class& c = classes_[k];
  if (c.count) {
    stack s = c.free[--c.count];
    if (c.count < c.low_water) c.low_water = c.count;
    if (c.trimmed > c.count) c.trimmed = c.count;
    return s;
  }
  std::size_t stack_size = smallest << k;
  if (c.next == c.end && !add_region(c, stack_size)) return {};
  stack s;
  s.base = c.next;
  s.size = std::uint32_t(stack_size);
  s.top = s.base + stack_size - colour(carved_++);
  c.next += stack_size;
  s.guarded = guard(s.base);
  // Room in the free list is made now, so that giving the stack back cannot fail.
  if (!c.free.reserve(std::size_t(carved_) + 1)) return {};
#ifdef TENDRIL_ASAN
  // What only a suspended fiber points to is not leaked. (Stays so for the stacks that are pooled.)
  __lsan_register_root_region(s.bottom(), std::size_t(s.base + s.size - s.bottom()));
#endif
  return s;
}

void stack_pool::give_back(const stack& s) noexcept {
#ifdef TENDRIL_ASAN
  __asan_unpoison_memory_region(s.bottom(), std::size_t(s.top - s.bottom()));
#endif
  size_class& c = classes_[class_of(s.size)];
  stack free = s;
  free.used = true;
  c.free[c.count++] = free;
}

bool stack_pool::trim() noexcept {
  bool left = false;
  for (size_class& c : classes_) {
    // The bottom `low_water` entries of the list were not taken since the last call.
    for (std::size_t i = c.trimmed; i < c.low_water; i++) {
      const stack& s = c.free[i];
      sys::advise(s.bottom(), std::size_t(s.base + s.size - s.bottom()), MADV_DONTNEED);
    }
    if (c.low_water > c.trimmed) c.trimmed = c.low_water;
    c.low_water = c.count;
    left |= c.trimmed < c.count;
  }
  return left;
}

stack_pool::~stack_pool() {
#ifdef TENDRIL_ASAN
  for (size_class& c : classes_) {
    for (std::size_t i = 0; i < c.count; i++) {
      const stack& s = c.free[i];
      __lsan_unregister_root_region(s.bottom(), std::size_t(s.base + s.size - s.bottom()));
    }
  }
#endif
  for (std::size_t i = 0; i < region_count_; i++) sys::unmap(regions_[i].start, regions_[i].size);
}

}  // namespace tendril::core
