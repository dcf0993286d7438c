// Raw jump_fcontext: the physical limit of switching, without a scheduler, exception state, or
// error checks.
#include <boost/context/detail/fcontext.hpp>

#include <sys/mman.h>

#include "bench.hpp"

using namespace bench;
using namespace boost::context::detail;

namespace {

constexpr std::size_t stack_size = 64 * 1024;

// The tops are apart by some cache lines, since they would collide in the cache otherwise.
struct stacks {
  explicit stacks(long n) : size(std::size_t(n) * stack_size) {
    memory = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("mmap");
    madvise(memory, size, MADV_NOHUGEPAGE);
  }
  ~stacks() { munmap(memory, size); }
  void* top(long i) const {
    return static_cast<char*>(memory) + std::size_t(i + 1) * stack_size - std::size_t(i % 16) * 64;
  }
  std::size_t size;
  void* memory;
};

void two(work& w) {
  stacks s(1);
  fcontext_t other = make_fcontext(s.top(0), stack_size, [](transfer_t t) {
    for (;;) t = jump_fcontext(t.fctx, static_cast<char*>(t.data) + 1);
  });
  char* sum = nullptr;
  w.begin();
  for (long i = 0; i < w.ops; i += 2) {
    transfer_t t = jump_fcontext(other, sum);
    other = t.fctx;
    sum = static_cast<char*>(t.data);
  }
  w.end();
  check(reinterpret_cast<std::intptr_t>(sum) == (w.ops + 1) / 2, "each switch adds one");
}

#ifdef __x86_64__
// The same, with another thread pointer each time, as threads with their own storage need it.
[[gnu::always_inline]] inline void set_thread_pointer(void* p) {
  __asm__ volatile("wrfsbase %0" ::"r"(p));
}

void two_threads(work& w) {
  stacks s(1);
  static void* mine;
  __asm__("mov %%fs:0, %0" : "=r"(mine));
  fcontext_t other = make_fcontext(s.top(0), stack_size, [](transfer_t t) {
    for (;;) {
      set_thread_pointer(mine);
      t = jump_fcontext(t.fctx, static_cast<char*>(t.data) + 1);
    }
  });
  char* sum = nullptr;
  w.begin();
  for (long i = 0; i < w.ops; i += 2) {
    set_thread_pointer(mine);
    transfer_t t = jump_fcontext(other, sum);
    other = t.fctx;
    sum = static_cast<char*>(t.data);
  }
  w.end();
}
#endif

// A ring of n contexts. Each prefetches the stack of a context that runs soon: no queue is simpler.
void ring_of(work& w) {
  static std::vector<fcontext_t> ring;
  static std::size_t at;
  static long left;
  static fcontext_t home, *from;
  stacks s(w.n);
  auto body = [](transfer_t t) {
    for (;;) {
      *from = t.fctx;
      from = &ring[at];
      if (left-- == 0) {
        t = jump_fcontext(home, nullptr);
        *from = t.fctx;
        from = &ring[at];
      }
      if (++at == ring.size()) at = 0;
      std::size_t soon = at + 8;
      if (ring.size() > 8) __builtin_prefetch(ring[soon < ring.size() ? soon : soon - ring.size()]);
      t = jump_fcontext(ring[at], nullptr);
    }
  };
  ring.clear();
  for (long i = 0; i < w.n; i++) ring.push_back(make_fcontext(s.top(i), stack_size, body));
  at = 0;
  auto go = [](long switches) {
    left = switches;
    from = &home;
    ring[at] = jump_fcontext(ring[at], nullptr).fctx;
  };
  go(w.n);  // touches all stacks
  w.begin();
  go(w.ops);
  w.end();
}

// Takes a stack from a free list, makes a context on it, and switches there and back with a result.
void spawn(work& w) {
  stacks s(w.n);
  std::vector<void*> free;
  for (long i = 0; i < w.n; i++) free.push_back(s.top(i));
  long sum = 0, i = 0;
  w.begin();
  for (; i < w.ops; i++) {
    void* top = free.back();
    free.pop_back();
    fcontext_t f = make_fcontext(top, stack_size, [](transfer_t t) {
      *static_cast<long*>(t.data) += 1;
      jump_fcontext(t.fctx, nullptr);
    });
    jump_fcontext(f, &sum);
    free.push_back(top);
  }
  w.end();
  check(sum == i, "all results came");
}

}  // namespace

int main(int argc, char** argv) {
  return contend(argc, argv,
                 {{"switch", two},
#ifdef __x86_64__
                  {"thread_switch", two_threads},
#endif
                  {"yield", ring_of},
                  {"spawn", spawn}});
}
