// The pool of stacks: which memory it maps and returns, and when.
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <tendril/event.hpp>
#include <tendril/task.hpp>

#include <chrono>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "fiber/stack.hpp"

using namespace tendril::core;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t kb = 1024, mb = 1024 * kb;

// Whether the page is mapped; whether it is in memory.
bool mapped(const std::byte* p) {
  unsigned char in = 0;
  return mincore(const_cast<std::byte*>(p), page, &in) == 0;
}
bool resident(const std::byte* p) {
  unsigned char in = 0;
  return mincore(const_cast<std::byte*>(p), page, &in) == 0 && (in & 1);
}

void touch(const stack& s) { std::memset(s.bottom(), 1, s.size); }
void trim_once(stack_pool& pool) {
  while (pool.trim() == stack_pool::trimmed::partly) {}
}

long field_kb(const char* file, const std::string& name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(name)) return std::stol(line.substr(name.size()));
  }
  return -1;
}
long resident_kb() { return field_kb("/proc/self/status", "VmRSS:"); }

}  // namespace

TEST_CASE("a stack has the requested size and guard, in whole pages, and nothing between") {
  stack_pool pool;
  for (std::size_t size : {16 * kb, 16 * kb + 1, 100 * kb, 8 * mb, 8 * mb + 16 * kb}) {
    for (std::size_t guard : {0 * kb, 4 * kb, 5 * kb, 1 * mb}) {
      stack s = pool.take_for_thread(size, guard);
      CHECK(s.size == whole_pages(size));
      CHECK(s.guard == whole_pages(guard));
      CHECK(s.bottom() == s.base + s.guard);
      CHECK(s.end() == s.bottom() + s.size);
      CHECK(s.top <= s.end());
      CHECK(s.guarded == (guard != 0));
      touch(s);
      if (guard) {
        CHECK(s.guards(s.bottom() - 1));
        CHECK(s.guards(s.base));
        CHECK_FALSE(s.guards(s.bottom()));
      }
    }
  }
  CHECK(pool.take_for_thread(SIZE_MAX, 0).size == 0);
  CHECK(pool.take_for_thread(mb, SIZE_MAX - page).size == 0);
  CHECK(pool.take(std::size_t(1) << 40).size == 0);
}

TEST_CASE("a fiber's guard is wider than a large frame") {
  stack_pool pool;
  stack s = pool.take(0);
  CHECK(s.size == stack_pool::default_size());
  CHECK(s.guard >= 60 * kb);
  CHECK((s.size + s.guard) / page % 2 == 1);  // else the TLB has room for a fraction of them
  CHECK(s.guarded);
}

TEST_CASE(
    "a large stack has a region to itself, and small ones share regions that are little larger "
    "than what is used") {
  stack_pool pool;
  auto mapped_kb = [] { return field_kb("/proc/self/status", "VmSize:"); };
  long before = mapped_kb();
  stack one = pool.take_for_thread(8 * mb, page);
  CHECK(mapped_kb() - before <= long(8 * kb + 200));
  std::vector<stack> small;
  before = mapped_kb();
  small.push_back(pool.take_for_thread(64 * kb, page));
  CHECK(mapped_kb() - before <= 300);
  for (int i = 1; i < 1000; i++) small.push_back(pool.take_for_thread(64 * kb, page));
  CHECK(mapped_kb() - before <= 1000 * 68 * 5 / 4);
  pool.give_back(one);
  for (stack& s : small) pool.give_back(s);
}

TEST_CASE(
    "stacks unused between two rounds lose their memory, and stacks taken meanwhile keep it") {
  stack_pool pool;
  stack a = pool.take(0), b = pool.take(0), c = pool.take(0);
  for (stack& s : {std::ref(a), std::ref(b), std::ref(c)}) touch(s);
  pool.give_back(a);
  pool.give_back(b);
  trim_once(pool);
  CHECK(resident(a.bottom()));  // was in use until now
  CHECK(resident(b.bottom()));
  CHECK(pool.take(0).base == b.base);  // the most recently used one first
  trim_once(pool);
  CHECK_FALSE(resident(a.bottom()));
  CHECK(resident(b.bottom()));
  CHECK(resident(c.bottom()));
}

TEST_CASE("memory is returned a second time, and a third") {
  stack_pool pool;
  for (int burst = 0; burst < 3; burst++) {
    std::vector<stack> all;
    for (int i = 0; i < 1000; i++) all.push_back(pool.take(0)), touch(all.back());
    stack kept = all.back();
    all.pop_back();
    for (stack& s : all) pool.give_back(s);
    trim_once(pool);
    trim_once(pool);
    int left = 0;
    for (stack& s : all) left += resident(s.bottom());
    CHECK(left == 0);
    CHECK(resident(kept.bottom()));
    pool.give_back(kept);
    CHECK(pool.trim() == stack_pool::trimmed::wholly);
    trim_once(pool);
    CHECK(pool.trim() == stack_pool::trimmed::nothing_left);
  }
}

TEST_CASE(
    "a region in which nothing is in use is unmapped, and one with a single stack in use stays") {
  stack_pool pool;
  stack large = pool.take_for_thread(8 * mb, page), used = pool.take_for_thread(8 * mb, page);
  std::vector<stack> small;
  for (int i = 0; i < 100; i++) small.push_back(pool.take_for_thread(64 * kb, page));
  touch(large);
  touch(used);
  pool.give_back(large);
  for (int i = 1; i < 100; i++) pool.give_back(small[i]);
  trim_once(pool);
  trim_once(pool);
  CHECK_FALSE(mapped(large.bottom()));
  CHECK(resident(used.bottom()));
  CHECK(mapped(small[0].bottom()));
  CHECK_FALSE(mapped(small[99].bottom()));
  stack again = pool.take_for_thread(8 * mb, page);
  CHECK(again.size == 8 * mb);
  touch(again);
  pool.give_back(again);
  pool.give_back(used);
  pool.give_back(small[0]);
  pool.unmap_free(false);  // immediately
  CHECK_FALSE(mapped(again.bottom()));
  CHECK_FALSE(mapped(used.bottom()));
  CHECK(mapped(small[0].bottom()));
  pool.unmap_free(true);
  CHECK_FALSE(mapped(small[0].bottom()));
}

TEST_CASE("tasks return their memory after each burst, although a timer ticks") {
  long before = resident_kb();
  for (int burst = 0; burst < 2; burst++) {
    int begun = 0;
    tendril::event all_begun, end;
    std::vector<tendril::task<void>> all;
    for (int i = 0; i < 2000; i++) {
      all.push_back(tendril::spawn([&] {
        char room[40'000];
        std::memset(room, 1, sizeof room);
        asm volatile("" ::"r"(room) : "memory");
        if (++begun == 2000) all_begun.set();
        end.wait();
      }));
    }
    all_begun.wait();
    long used = resident_kb() - before;
    CHECK(used > 2000 * 30);
    end.set();
    tendril::joinall(all);
    all.clear();
    // Wait without a limit; the test has its own. What remains is that of the few stacks that are
    // kept, and of a sanitizer.
    while (resident_kb() - before > used / 2) tendril::sleep(20ms);
  }
}
