#include "watched.hpp"

#include <cstring>

#include "checker.hpp"

extern "C" const char __executable_start;

namespace models {

std::size_t raced_at = 0;

namespace {

// (Not containers: see checker.cpp.)
struct range {
  const char* begin;
  std::size_t size;
};
range executed[1024];
unsigned executed_count = 0;

constexpr std::size_t largest = 16384;
struct watched_object {
  const char* begin = nullptr;
  std::size_t size = 0;
  // for each byte, what Relacy knows of accesses that begin there
  rl::var_data* seen[largest] = {};
};
watched_object objects[4];

void saw(const void* where, bool writes, const void* code = __builtin_return_address(0)) noexcept {
  auto* at = static_cast<const char*>(where);
  for (watched_object& o : objects) {
    if (at < o.begin || at >= o.begin + o.size) continue;
    for (unsigned i = 0; i < executed_count; i++) {
      if (at >= executed[i].begin && at < executed[i].begin + executed[i].size) return;
    }
    if (writes) operation here;
    rl::var_data*& seen = o.seen[at - o.begin];
    auto& thread = *rl::ctx().threadx_;
    if (!seen) seen = rl::ctx().var_ctor();
    if (!(writes ? seen->store(thread) : seen->load(thread))) {
      raced_at = std::size_t(static_cast<const char*>(code) - &__executable_start);
      rl::ctx().fail_test("", rl::test_result_data_race, info_of(source_location::current()));
    }
    return;
  }
}

}  // namespace

void is_written(const void* variable) noexcept { saw(variable, true, __builtin_return_address(0)); }
void watch_nothing() noexcept {
  raced_at = 0;
  for (watched_object& o : objects) {
    if (o.begin) std::memset(o.seen, 0, o.size * sizeof *o.seen);
    o.begin = nullptr;
    o.size = 0;
  }
  executed_count = 0;
}
void is_executed(const void* object, std::size_t size) noexcept {
  for (unsigned i = 0; i < executed_count; i++) {
    if (executed[i].begin == object) return;
  }
  if (executed_count < std::size(executed))
    executed[executed_count++] = {static_cast<const char*>(object), size};
}
void watch(const void* object, std::size_t size) noexcept {
  for (watched_object& o : objects) {
    if (o.begin) continue;
    o.begin = static_cast<const char*>(object);
    o.size = size < largest ? size : largest;
    return;
  }
}
void watch_no_more(const void* object) noexcept {
  for (watched_object& o : objects) {
    if (o.begin != object) continue;
    for (std::size_t i = 0; i < o.size; i++) {
      if (o.seen[i]) rl::ctx().var_dtor(o.seen[i]), o.seen[i] = nullptr;
    }
    o.begin = nullptr;
    o.size = 0;
  }
}

}  // namespace models

// What the compiler calls.
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
#define ACCESSES(N)                                                       \
  void __tsan_read##N(const void* p) { models::saw(p, false); }           \
  void __tsan_write##N(const void* p) { models::saw(p, true); }           \
  void __tsan_unaligned_read##N(const void* p) { models::saw(p, false); } \
  void __tsan_unaligned_write##N(const void* p) { models::saw(p, true); } \
  void __tsan_volatile_read##N(const void* p) { models::saw(p, false); }  \
  void __tsan_volatile_write##N(const void* p) { models::saw(p, true); }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
void __tsan_read_range(const void* p, std::size_t) { models::saw(p, false); }
void __tsan_write_range(const void* p, std::size_t) { models::saw(p, true); }
void __tsan_vptr_update(void**, void*) {}
// Atomics of the standard library: no protocol is made of them. A fiber's state is its home's
// alone.
std::uint8_t __tsan_atomic8_load(const std::uint8_t* p, int) {
  models::saw(p, false);
  return *p;
}
void __tsan_atomic8_store(std::uint8_t* p, std::uint8_t v, int) {
  models::saw(p, true);
  *p = v;
}
std::uint32_t __tsan_atomic32_load(const std::uint32_t* p, int) { return *p; }
void __tsan_atomic32_store(std::uint32_t* p, std::uint32_t v, int) { *p = v; }
void __tsan_atomic_signal_fence(int) {}
}
