// The barrier that lets an object in a public header do without atomic operations while only one
// kernel thread uses it: see include/tendril/detail/biased_lock.hpp.
#include <tendril/detail/core.hpp>

#include <linux/membarrier.h>

#include "base/sys.hpp"

namespace tendril::core {

bool barrier_available() noexcept {
#ifdef TENDRIL_TSAN
  return false;  // TSan understands atomic operations only
#else
  // Locks that already rely on the barrier use barrier_by_page() from now on.
  if (sys::is_refused(SYS_membarrier)) [[unlikely]]
    return false;
  static constinit std::atomic<int> known{0};  // 1: yes, -1: no
  int k = known.load(std::memory_order_relaxed);
  if (k == 0) {
    k = sys::failed(sys::call(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0)) ? -1
                                                                                                : 1;
    known.store(k, std::memory_order_relaxed);
  }
  return k > 0;
#endif
}

namespace {

// The barrier for a process that may no longer call membarrier(2): removing access rights from a
// page interrupts every processor that runs a thread of the process (x86_64).
bool barrier_by_page() noexcept {
#if defined(__x86_64__)
  auto page = static_cast<volatile char*>(sys::map(4096));
  if (!page) return false;
  *page = 1;
  bool done = sys::protect(const_cast<char*>(page), 4096, PROT_READ) == 0;
  sys::unmap(const_cast<char*>(page), 4096);
  return done;
#else
  return false;
#endif
}

}  // namespace

void barrier_all() noexcept {
  if (!sys::is_refused(SYS_membarrier)) {
    if (!sys::failed(sys::call(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))) return;
    // The kernel has no registration of this process, perhaps because of a fork.
    sys::call(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
    if (!sys::failed(sys::call(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))) return;
    sys::turns_out_refused(SYS_membarrier);
  }
  if (!barrier_by_page()) sys::die("the system has taken membarrier(2) away");
}

void futex_sleep(const void* word, std::uint32_t expected) noexcept {
  sys::futex_wait(word, expected);
}
void processor_yield() noexcept { sys::call(SYS_sched_yield); }
void futex_wake_one(const void* word) noexcept { sys::futex_wake(word, 1); }

}  // namespace tendril::core
