#include "fiber/stack.hpp"

#include <errno.h>
#include <stdlib.h>

#include "base/sanitize.hpp"
#include "fiber/stack_protection.hpp"

namespace tendril::core {

namespace {

constexpr int madv_guard_install = 102;  // Linux 6.13
constexpr std::size_t large = 1 << 20;   // a stack of at least this size has a region of its own
constexpr std::size_t largest_region = 32 << 20;
constexpr std::size_t fewest_in_region = 4;
constexpr std::size_t most_trimmed_at_once = 128;  // takes a tenth of a millisecond

// How guard pages are made: 0: with MADV_GUARD_INSTALL, 1: with mprotect, 2: not any more.
std::atomic<int> way_to_guard{0};

int protection() noexcept { return PROT_READ | PROT_WRITE | (stacks_hold_code() ? PROT_EXEC : 0); }

void* map(std::size_t size, bool counted) noexcept {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | (counted ? 0 : MAP_NORESERVE);
  long p = sys::call(SYS_mmap, 0, size, protection(), flags, -1, 0);
  sys::got();
  if (sys::failed(p)) return nullptr;
  // a touched page must not allocate 2 MB
  sys::advise(reinterpret_cast<void*>(p), size, MADV_NOHUGEPAGE);
  return reinterpret_cast<void*>(p);
}

// Page-aligned tops would put every fiber's hottest frames into the same cache sets. With tops
// spread over half a page, a batch of 1,000 tasks stays in a cache of 2 MB (36 ns a task; spread
// over a quarter: 49), and a parked fiber that uses up to 1.8 KB still fits into one page.
std::size_t colour(std::uint32_t n) noexcept { return (n % 32) * 64; }

}  // namespace

std::size_t stack_pool::default_size() noexcept {
  // 0: not read yet; it does no harm if several threads read it at once
  static constinit std::atomic<std::size_t> size{0};
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

bool stack_pool::guard(std::byte* at, std::size_t size) noexcept {
  if (size == 0) return false;
  if (way_to_guard.load(std::memory_order_relaxed) == 0) {
    if (sys::advise(at, size, madv_guard_install) == 0) return true;
    way_to_guard = 1;
  }
  if (way_to_guard.load(std::memory_order_relaxed) == 1) {
    if (sys::protect(at, size, 0 /* PROT_NONE */) == 0) return true;
    way_to_guard = 2;
    sys::say("no more guard pages (see vm.max_map_count): further fiber stacks are not guarded");
  }
  return false;
}

stack_pool::stack_class* stack_pool::class_of(std::size_t size, std::size_t guard,
                                              bool counted) noexcept {
  auto is = [&](std::size_t i) {
    const stack_class& c = classes_[i];
    return c.size == size && c.guard == guard && c.counted == counted;
  };
  if (last_class_ < class_count_ && is(last_class_)) return &classes_[last_class_];
  for (std::size_t i = 0; i < class_count_; i++) {
    if (is(i)) return &classes_[last_class_ = i];
  }
  if (!classes_.reserve(class_count_ + 1)) return nullptr;
  stack_class& c = classes_[last_class_ = class_count_++];
  c.size = size;
  c.guard = guard;
  c.counted = counted;
  return &c;
}

bool stack_pool::add_region(stack_class& c) noexcept {
  std::uint32_t number = 0;
  while (number < region_count_ && regions_[number].start) number++;
  if (number == region_count_ && !regions_.reserve(region_count_ + 1)) return false;
  std::size_t slot = c.slot(), stacks = 1;
  if (slot < large) {
    stacks = c.made / 8;
    if (stacks > largest_region / slot) stacks = largest_region / slot;
    if (stacks < fewest_in_region) stacks = fewest_in_region;
  }
  // Where memory is short (ulimit -v, vm.overcommit_memory=2), smaller regions still work.
  void* p;
  while (!(p = map(stacks * slot, c.counted))) {
    if (stacks == 1) return false;
    stacks = stacks / 4 ? stacks / 4 : 1;
  }
  c.open = number;
  c.next = static_cast<std::byte*>(p);
  c.end = c.next + stacks * slot;
  regions_[number] = {c.next, stacks * slot, slot, c.guard, std::uint32_t(&c - classes_.data()), 0,
                      0};
  if (number == region_count_) region_count_++;
  return true;
}

stack stack_pool::take(std::size_t size) noexcept {
  if (size == 0) size = default_size();
  if (size > largest) return {};
  return take(whole_pages(size < smallest ? smallest : size), fiber_guard, false);
}

stack stack_pool::take_for_thread(std::size_t size, std::size_t guard) noexcept {
  size = whole_pages(size);
  guard = whole_pages(guard);
  constexpr std::size_t most = std::size_t(1) << 47;
  if (size == 0 || size > most || guard > most) return {};
  return take(size, guard, true);
}

stack stack_pool::take(std::size_t size, std::size_t guard_size, bool counted) noexcept {
  stack_class* found = class_of(size, guard_size, counted);
  if (!found) return {};
  stack_class& c = *found;
  if (c.count) {
    stack s = c.free[--c.count];
    if (c.count < c.low_water) c.low_water = c.count;
    if (c.trimmed > c.count) c.trimmed = c.count;
    return s;
  }
  // Room in the free list is made now, so that giving the stack back cannot fail.
  if (!c.free.reserve(c.made + 1)) return {};
  if (c.next == c.end && !add_region(c)) return {};
  stack s;
  s.base = c.next;
  s.size = size;
  s.guard = guard_size;
  s.region = c.open;
  s.top = s.end() - colour(carved_++);
  c.next += c.slot();
  c.made++;
  regions_[c.open].carved++;
  s.guarded = guard(s.base, guard_size);
  arch::register_stack_with_valgrind(s.bottom(), s.end());
#ifdef TENDRIL_ASAN
  // Memory that only a suspended fiber points to is not leaked. (Pooled stacks stay registered.)
  __lsan_register_root_region(s.bottom(), s.size);
#endif
  return s;
}

void stack_pool::give_back(const stack& s) noexcept {
#ifdef TENDRIL_ASAN
  __asan_unpoison_memory_region(s.bottom(), std::size_t(s.top - s.bottom()));
#endif
  stack_class& c = classes_[regions_[s.region].of];
  stack free = s;
  free.used = true;
  c.free[c.count++] = free;
  left_memory_ = true;
}

stack_pool::trimmed stack_pool::trim() noexcept {
  for (std::size_t left = most_trimmed_at_once; trims_ < class_count_; trims_++) {
    stack_class& c = classes_[trims_];
    // The bottom `low_water` entries of the list were not taken since the last round.
    bool some = c.trimmed < c.low_water;
    for (; c.trimmed < c.low_water; c.trimmed++) {
      if (left-- == 0) return trimmed::partly;
      const stack& s = c.free[c.trimmed];
      sys::advise(s.bottom(), s.size, MADV_DONTNEED);
    }
    if (some) unmap_idle(c, c.trimmed);
    c.low_water = c.count;
  }
  trims_ = 0;
  left_memory_ = false;
  for (std::size_t i = 0; i < class_count_; i++) {
    if (classes_[i].trimmed < classes_[i].count) return trimmed::wholly;
  }
  return trimmed::nothing_left;
}

void stack_pool::unmap_free(bool small_ones) noexcept {
  for (std::size_t i = 0; i < class_count_; i++) {
    if (small_ones || classes_[i].slot() >= large) unmap_idle(classes_[i], classes_[i].count);
  }
}

// Unmaps the regions whose stacks are all among the first `among` entries of the free list.
void stack_pool::unmap_idle(stack_class& c, std::size_t among) noexcept {
  for (std::size_t i = 0; i < among; i++) regions_[c.free[i].region].idle = 0;
  bool any = false;
  for (std::size_t i = 0; i < among; i++) {
    region& r = regions_[c.free[i].region];
    if (++r.idle == r.carved) any = true;
  }
  if (!any) return;
  std::size_t kept = 0, trimmed = 0, low_water = 0;
  for (std::size_t i = 0; i < c.count; i++) {
    stack s = c.free[i];
    region& r = regions_[s.region];
    // Unmap the region at the first of its stacks. If the kernel refuses (a hole may make one
    // mapping too many), keep all of its stacks.
    if (i < among && r.start && r.idle == r.carved && !unmap(s.region)) r.idle = 0;
    if (!r.start) {
#ifdef TENDRIL_ASAN
      __lsan_unregister_root_region(s.bottom(), s.size);
#endif
      c.made--;
      continue;
    }
    trimmed += i < c.trimmed;
    low_water += i < c.low_water;
    c.free[kept++] = s;
  }
  c.count = kept;
  c.trimmed = trimmed;
  c.low_water = low_water;
}

bool stack_pool::unmap(std::uint32_t number) noexcept {
  region& r = regions_[number];
  sys::given_back();
  if (sys::call(SYS_munmap, r.start, r.size) < 0) return false;
  stack_class& c = classes_[r.of];
  if (c.open == number) c.next = c.end = nullptr;
  r.start = nullptr;
  return true;
}

void stack_pool::allow_code() noexcept {
  allows_code_ = true;
  for (std::size_t i = 0; i < region_count_; i++) {
    const region& r = regions_[i];
    if (!r.start || sys::protect(r.start, r.size, PROT_READ | PROT_WRITE | PROT_EXEC) < 0) continue;
    // guards made by madvise do not depend on the mapping's protection
    if (way_to_guard.load(std::memory_order_relaxed) == 0) continue;
    for (std::uint32_t n = 0; n < r.carved; n++) guard(r.start + n * r.slot, r.guard);
  }
}

bool stack_pool::holds(const void* p) const noexcept {
  for (std::size_t i = 0; i < region_count_; i++) {
    const region& r = regions_.data()[i];
    if (r.start && p >= r.start && p < r.start + r.size) return true;
  }
  return false;
}

stack_pool::~stack_pool() {
  for (std::size_t i = 0; i < class_count_; i++) classes_[i].free.~page_array();
  for (std::size_t i = 0; i < region_count_; i++) {
    const region& r = regions_[i];
    if (!r.start) continue;
#ifdef TENDRIL_ASAN
    for (std::size_t n = 0; n < r.carved; n++)
      __lsan_unregister_root_region(r.start + n * r.slot + r.guard, r.slot - r.guard);
    // The stacks of tasks whose handles have outlived the kernel thread were not given back.
    __asan_unpoison_memory_region(r.start, r.size);
#endif
    sys::unmap(r.start, r.size);
  }
}

}  // namespace tendril::core
